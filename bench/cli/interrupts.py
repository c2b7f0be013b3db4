"""Interrupts that are not lost."""

from __future__ import annotations

import _thread
import signal
import sys
import threading

AGAIN = 0.05  # seconds after which a lost interrupt comes again


def heed_interrupts() -> None:
    """Have a request to end the process raise KeyboardInterrupt, as Ctrl-C does, and neither be lost.

    Python ignores what is raised in a destructor or in the callback of a weak reference, and torch has many of those.
    An interrupt that arrives there is sent again.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.unraisablehook = _interrupt_again


def _interrupt_again(ignored: sys.UnraisableHookArgs) -> None:
    if not issubclass(ignored.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(ignored)
        return
    # From another thread, and later: here it would be ignored as well. SIGINT may be turned off, as in the background.
    again = threading.Timer(AGAIN, _thread.interrupt_main, [signal.SIGTERM])
    again.daemon = True
    again.start()
