"""Mitogen's strategy, wherever it is installed: a play keeps one Python on each machine and does not start a new one,
and compile its modules anew, for each task. Without KVM that is most of a task's time."""

from ansible_mitogen import loaders, strategy

Base = loaders.strategy_loader.get("linear", class_only=True)


class StrategyModule(strategy.StrategyMixin, Base):
    """As Ansible finds it."""
