"""Every error a user can meet, grouped by what a handler would do.

```
AtlasError
├── InputError            change what was given, run again
│   ├── SpecError         a key or value of the build spec
│   ├── ModelError        the model, its weights, a layer or a unit
│   ├── ImageError        the images
│   └── QueryError        a question that the atlas cannot answer
├── StoreError            look at the store
│   ├── NotAnAtlasError   nothing to read at that location
│   ├── SchemaError       written by a newer version
│   ├── MismatchError     built from another spec, other weights or other images
│   ├── CorruptError      missing, torn or altered
│   ├── UnreadableError   one object that the disk does not give
│   └── WriteError        read-only, full, or refused
├── UnitError             recorded for that unit; the others go on
│   ├── NonFiniteError    NaN or infinity in its response or scores
│   ├── RecordError       its record does not fit the layer
│   └── ContestedError    others took the names that it was to be stored under
└── InfrastructureError   tried again elsewhere
```

`kind` is stable and meant for programs; the message is one line for people: what, which value,
what to do. Errors survive pickling.
"""

from __future__ import annotations


class AtlasError(Exception):
    """The root. `str(error)` is the one line that a person reads."""

    kind = "atlas"


class InputError(AtlasError):
    """What was given cannot be used; nothing was done."""

    kind = "input"


class SpecError(InputError):
    """A key or a value of the build spec."""

    kind = "spec"


class ModelError(InputError):
    """The model, its weights, a layer of it or a unit of a layer."""

    kind = "model"


class ImageError(InputError):
    """The image set as a whole; one bad image among many is recorded instead."""

    kind = "images"


class QueryError(InputError):
    """A question that this atlas cannot answer."""

    kind = "query"


class StoreError(AtlasError):
    """The store is not as it must be."""

    kind = "store"


class NotAnAtlasError(StoreError):
    """There is no atlas at that location."""

    kind = "not_an_atlas"


class SchemaError(StoreError):
    """The atlas was written by a version that this one cannot read."""

    kind = "schema"


class MismatchError(StoreError):
    """The atlas was built from another spec, other weights or other images."""

    kind = "mismatch"


class CorruptError(StoreError):
    """Something committed is missing, torn or altered."""

    kind = "corrupt"


class UnreadableError(StoreError):
    """One object cannot be read: the disk has a fault there, or it is not permitted."""

    kind = "unreadable"


class WriteError(StoreError):
    """The store refused a write: read-only, full, or no permission."""

    kind = "write"


class UnitError(AtlasError):
    """One unit failed for a reason of its own."""

    kind = "unit"


class NonFiniteError(UnitError):
    """NaN or infinity in a unit's response or scores."""

    kind = "non_finite"


class RecordError(UnitError):
    """What a worker computed of one unit does not fit the layer it belongs to: a fault of ours."""

    kind = "record"


class ContestedError(UnitError):
    """Every name that a unit was to be stored under was taken, or what was stored was removed."""

    kind = "contested"


class InfrastructureError(AtlasError):
    """A worker, machine or deadline failed, not the unit."""

    kind = "infrastructure"


class WorkerLostError(InfrastructureError):
    """The process that ran a task ended before the task did."""

    kind = "worker_lost"


class DeadlineError(InfrastructureError):
    """A task took longer than its deadline."""

    kind = "deadline"
