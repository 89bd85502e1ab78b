"""Tercel, a runtime-security appliance: system calls in, judged by rules, alerts out."""

__version__ = "0.1.0"
