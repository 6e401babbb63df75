"""The journal against a model of what it promises, over arbitrary lives with crashes in them."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edge_agent.config import Journal as Limits
from edge_agent.errors import Busy, Conflict
from edge_agent.serving.journal_file import JournalFile
from tests.serving.drafts import Clock, draft

MAX_JOBS = 4
RETENTION_S = 100.0


@dataclass
class Known:
    """What a client who saw `accepted` may rely on."""

    seq: int
    prompt: str
    state: str = "queued"
    attempt: int = 1
    crashes: int = 0
    body: bytes | None = None
    is_published: bool = False
    forgotten_at_s: float = float("inf")


class JournalMachine(RuleBasedStateMachine):
    """Two ids per prompt, so that repeats and conflicts are common."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.clock = Clock()
        self.known: dict[str, Known] = {}
        self.limits = Limits(max_jobs=MAX_JOBS, retention_s=RETENTION_S)
        self.file = self._open()

    def _open(self) -> JournalFile:
        return JournalFile(self.directory / "journal.db", self.limits, self.clock)

    def teardown(self) -> None:
        self.file.close()
        shutil.rmtree(self.directory)

    @property
    def open_jobs(self) -> list[Known]:
        return [job for job in self.known.values() if job.state != "done"]

    @rule(id_=st.sampled_from("abcdef"), prompt=st.sampled_from(["one", "two"]))
    def accept(self, id_: str, prompt: str) -> None:
        known = self.known.get(id_)
        try:
            taken = self.file.accept(draft(id_, prompt))
        except Conflict:
            assert known
            assert known.prompt != prompt
        except Busy:
            assert known is None
            assert len(self.open_jobs) >= MAX_JOBS
        else:
            assert taken.is_new == (known is None)
            if known is None:
                self.known[id_] = Known(seq=taken.ticket.seq, prompt=prompt)
            else:
                assert (taken.ticket.seq, prompt) == (known.seq, known.prompt)
                assert taken.is_done == (known.state == "done")
                known.is_published = False

    @precondition(lambda self: self.open_jobs)
    @rule(data=st.data())
    def start(self, data: st.DataObject) -> None:
        known = data.draw(st.sampled_from(self.open_jobs))
        job = self.file.load(known.seq)
        self.file.start(known.seq, durable=data.draw(st.booleans()))
        assert (job is not None) == (known.state == "queued")
        if job:
            assert (job.attempt, job.crashes) == (known.attempt, known.crashes)
            assert job.request.messages[0].content == known.prompt
            known.state = "running"

    @precondition(lambda self: self.open_jobs)
    @rule(data=st.data(), was_crash=st.booleans())
    def put_back(self, data: st.DataObject, was_crash: bool) -> None:
        known = data.draw(st.sampled_from(self.open_jobs))
        known.attempt += 1
        known.crashes += was_crash
        known.state = "queued"
        self.file.put_back(known.seq, attempt=known.attempt, crashes=known.crashes)

    @precondition(lambda self: self.known)
    @rule(data=st.data(), body=st.binary(max_size=20))
    def finish(self, data: st.DataObject, body: bytes) -> None:
        known = data.draw(st.sampled_from(list(self.known.values())))
        is_first = self.file.finish(known.seq, body)
        assert is_first == (known.state != "done"), "one terminal result, the first"
        if is_first:
            known.state, known.body = "done", body
            known.forgotten_at_s = self.clock().boot_s + RETENTION_S

    @precondition(lambda self: any(job.state == "done" for job in self.known.values()))
    @rule(data=st.data())
    def publish(self, data: st.DataObject) -> None:
        done = [job for job in self.known.values() if job.state == "done"]
        known = data.draw(st.sampled_from(done))
        self.file.results.published(known.seq)
        known.is_published = True

    @rule(seconds=st.sampled_from([1.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.forward(seconds)
        self.file.sweep()
        now_s = self.clock().boot_s
        self.known = {k: job for k, job in self.known.items() if job.forgotten_at_s >= now_s}

    @rule()
    def crash_and_start_again(self) -> None:
        self.file.close()
        self.file = self._open()
        tickets = self.file.replay(())
        for known in self.open_jobs:
            if known.state == "running":
                known.state = "queued"
                known.attempt += 1
                known.crashes += 1
        assert [(t.seq, t.attempt, t.crashes) for t in tickets] == sorted(
            (known.seq, known.attempt, known.crashes) for known in self.open_jobs
        )

    @invariant()
    def every_unconfirmed_result_waits_to_be_sent_unchanged(self) -> None:
        expected = {
            job.seq: job.body
            for job in self.known.values()
            if job.state == "done" and not job.is_published
        }
        assert {result.seq: result.body for result in self.file.results.outbox(99, ())} == expected

    @invariant()
    def its_own_count_is_right(self) -> None:
        assert self.file._open_jobs == len(self.open_jobs)
        [(held_bytes,)] = self.file._db.execute("SELECT coalesce(sum(bytes), 0) FROM job")
        assert self.file._kept_bytes == held_bytes


TestJournal = JournalMachine.TestCase
TestJournal.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
