"""Two hundred hostile documents; `python -m tests.fuzz documents` opens ten thousand."""

from __future__ import annotations

from tests.fuzz.trial import trials


def test_hostile_documents_are_read_or_refused_in_an_error_of_ours():
    found = list(trials("documents", numbers=range(200)))
    assert len(found) == 200
    bad = [trial for trial in found if trial.bad]
    assert not bad, bad
    outcomes = {trial.outcome for trial in found}
    assert "read" in outcomes, "some are as good as any"
    assert "CorruptError" in outcomes
