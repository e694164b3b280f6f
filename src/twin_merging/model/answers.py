"""One answer of a merged model, for people."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """task: whose private parameters answered (None where nothing is private and no router chose); weights: the
    router's, by task (empty without a router, all 0 for a text that comes from none of the tasks); probabilities of a
    classifier's labels, or `value` of a regression, or the `text` that a language model wrote."""

    task: str | None
    weights: dict[str, float]
    probabilities: list[float] | None = None
    value: float | None = None
    text: str | None = None

    def lines(self) -> list[str]:
        """For people: the task, the weights in falling order, the answer."""
        found = [f"task     {self.task or 'any: the model is the same for all'}"]
        if self.weights and not any(self.weights.values()):
            found.append("weights  all 0: the text comes from none of the tasks, so the shared expert answers")
        elif self.weights:
            order = sorted(self.weights.items(), key=lambda pair: -pair[1])
            found.append("weights  " + ", ".join(f"{task} {weight:.3f}" for task, weight in order))
        if self.probabilities is not None:
            best = max(range(len(self.probabilities)), key=self.probabilities.__getitem__)
            found.append(
                f"answer   label {best} of 0 to {len(self.probabilities) - 1}, p = {max(self.probabilities):.3f}"
            )
        elif self.value is not None:
            found.append(f"answer   {self.value:.3f}")
        else:
            found.append(f"answer   {self.text}")
        return found
