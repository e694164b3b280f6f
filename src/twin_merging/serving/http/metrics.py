"""What `/metrics` tells Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from twin_merging.serving.engine import Engine
from twin_merging.serving.rows import Read, Result

PREFIX = "twin_merging_"
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Of one server. What only grows is counted as it happens; the queue and the batch are asked when they are told."""

    def __init__(self) -> None:
        self.registry = own = CollectorRegistry()
        self.requests = Counter(f"{PREFIX}requests", "Requests by path and status", ["path", "status"], registry=own)
        self.rows = Histogram(f"{PREFIX}batch_rows", "Rows of each pass of the model", buckets=ROWS, registry=own)
        self.prompt_tokens = Counter(f"{PREFIX}prompt_tokens", "Tokens of prompts that were answered", registry=own)
        self.written_tokens = Counter(f"{PREFIX}generation_tokens", "Tokens that were written", registry=own)
        self.answers = Counter(f"{PREFIX}answers", "Answers by what ended them", ["finish_reason"], registry=own)
        self.routed = Counter(f"{PREFIX}routed", "Answers by the task that they were routed to", ["task"], registry=own)
        self.cancelled = Counter(
            f"{PREFIX}cancelled", "Requests whose clients went, or that took too long", registry=own
        )
        self.first = Histogram(
            f"{PREFIX}time_to_first_token_seconds",
            "From arrival to the first token",
            buckets=SECONDS,
            registry=own,
        )
        self.whole = Histogram(
            f"{PREFIX}answer_seconds", "From arrival to the last token", buckets=SECONDS, registry=own
        )
        self._waiting = Gauge(f"{PREFIX}queue_rows", "Rows that wait", registry=own)
        self._running = Gauge(f"{PREFIX}running_rows", "Rows in the batch", registry=own)

    def follow(self, engine: Engine) -> None:
        self._waiting.set_function(lambda: engine.waiting)
        self._running.set_function(lambda: engine.running)

    def answered(self, result: Result | Read) -> None:
        if isinstance(result, Read):
            self.whole.observe(result.seconds)
            if result.routing is not None:
                self.routed.labels(result.routing.task or "").inc()
            return
        self.written_tokens.inc(result.count)
        self.answers.labels(result.finish).inc()
        self.routed.labels(result.routing.task or "").inc()
        self.first.observe(result.seconds[0])
        self.whole.observe(result.seconds[1])

    def text(self) -> bytes:
        return generate_latest(self.registry)
