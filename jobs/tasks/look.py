"""What is told of images before any work: as they lie prepared, or from a look at some of them."""

from __future__ import annotations

from circuit_atlas.jobs.images.preparation import Preparation
from circuit_atlas.jobs.images.prepared_images import PreparedImages, prepare_here
from circuit_atlas.jobs.tasks.atlas_images import of_source
from circuit_atlas.storage_schema import layout
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.template import check_names

_MOST = 256


class LookedAt:
    """Opens the images of a spec for who only wants to know of them, and writes nothing.

    Attributes:
        images: how many there are; 0 before.
        pixels_bytes: what those will take that are not prepared yet; 0 before.
        at_all: whether all of them are known, or some were looked at; true before.
    """

    def __init__(self, objects: Objects | None) -> None:
        """Takes the store of the build, None where there is none yet."""
        self._objects = objects
        self.images = 0
        self.pixels_bytes = 0
        self.at_all = True

    def __call__(self, preparation: Preparation) -> PreparedImages:
        """Opens the images as they lie prepared, or reads no more than 256 of them.

        Raises:
            ImageError: none of those can be read, or none is left for scoring.
            MismatchError: the store has an atlas of other images.
        """
        objects = self._objects
        if objects is not None and objects.exists(layout.HEADER):
            known = of_source(preparation, Reader(objects))
            if known is not None:
                self.images = len(known.infos)
                return known
            check_names(objects, [entry.name for entry in preparation.listing.entries])
        self.images = len(preparation.listing.entries)
        self.at_all = self.images <= _MOST
        self.pixels_bytes = self.images * preparation.form.form.size_bytes
        return prepare_here(preparation.sample(_MOST))

    @property
    def remarks(self) -> tuple[str, ...]:
        """What to tell of it, a line each."""
        if self.at_all:
            return ()
        return (
            f"{_MOST} of the {self.images} images were looked at; a build reads each of them once, "
            "and says how many it leaves out",
        )
