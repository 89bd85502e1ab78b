"""What a sink is.

Comes in: an `Alert`. Goes out: the alert, somewhere. Never: silence about one that did not arrive: `deliver` raises.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from appliance.model.alert import Alert


class Sink(ABC):
    """One place where alerts go. Called by one thread only, the worker that the dispatcher gives it."""

    name: str
    """The key of its settings, `file_output`."""

    @abstractmethod
    def deliver(self, alert: Alert) -> None:
        """Hand one alert over. Returns when the other end has it; raises `DeliveryError` when it has not."""

    @abstractmethod
    def close(self) -> None:
        """Give back what is held open. No alert follows."""

    @abstractmethod
    def describe(self) -> str:
        """For the banner: what and where, on one line."""
