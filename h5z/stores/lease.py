"""One run a target: a lease that is renewed while its run lives, and runs out when it dies.

A lease is a claim under ``.h5z/lease/`` with a number. A claim is created only where there is none of its number, by the
store's own means; the highest holds. It is renewed by a thread of its run, four times in its span; one that was not renewed for
its span, or whose process is known to be dead, is superseded by the next number, which names the claim that it supersedes. A
run whose claim was superseded, or is gone, has lost the target and stops before it writes more.

Nobody's clock is trusted: how old a claim is, is told by the store's own times; where it has none, by watching it for its span.
Processes measure spans by a clock that also runs while they are stopped.

The protocol needs one thing of a store: to create an object only where there is none. Sources: C. Gray, D. Cheriton, "Leases",
SOSP 1989; numbers that only grow as fencing tokens: M. Kleppmann, "How to do distributed locking", 2016.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from h5z.errors import H5zError, LeaseLostError, TargetHeldError, one_line
from h5z.stores.claims import Claims
from h5z.stores.holder import SPAN, Holder, clock

_RENEWALS = 4  # in a span
_TRIES = 100


@dataclass(frozen=True)
class Lease:
    """A run's hold on a target, as its tasks carry it.

    Attributes
    ----------
    shared : bool
        Of a graph: no thread renews it, but each of its tasks does; nothing renews it between them.
    """

    number: int
    run: str
    span: float
    shared: bool = False

    @property
    def name(self) -> str:
        """The claim's name."""
        return str(self.number)


@dataclass
class _Watch:
    """What this process knows of a lease."""

    until: float = -1.0  # it may write without asking
    holder: Holder | None = None  # where this process renews it
    seen: tuple[Any, float] | None = None  # the claim's sign, and when it was first seen
    lost: str = ""
    ended: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)


_watches: dict[str, _Watch] = {}
_beginning: set[str] = set()  # runs of this process that may have a claim, and no watch yet


def holder(claims: Claims) -> Holder | None:
    """Who holds a target now; None if a run may begin, or only watching its lease would tell."""
    numbers = sorted(map(int, claims.names()))
    text = claims.read(str(numbers[-1])) if numbers else None
    if text is None:
        return None
    found = Holder.parse(text)
    here = Holder.here(found.span, shared=False)
    return None if _free(claims, str(numbers[-1]), found, here, adopt=False, watch=False) else found


def acquire(
    claims: Claims, target: str, *, shared: bool = False, adopt: bool = False, patient: bool = False, span: float | None = None
) -> Lease:
    """Take the lease on a target.

    Parameters
    ----------
    target : str
        Its name, for the error.
    shared : bool
        For a graph: nothing renews it but its tasks.
    adopt : bool
        Whether a graph's lease may be taken over though it has not run out.
    patient : bool
        Wait until another's lease runs out or is renewed, rather than refuse at once.
    span : float
        Seconds after which it runs out unless it is renewed.

    Raises
    ------
    TargetHeldError
        If another run holds it; naming that.
    """
    mine = Holder.here(SPAN if span is None else span, shared=shared)
    _beginning.add(mine.run)
    try:
        return _acquire(claims, target, mine, adopt=adopt, patient=patient)
    finally:
        _beginning.discard(mine.run)


def _acquire(claims: Claims, target: str, mine: Holder, *, adopt: bool, patient: bool) -> Lease:
    for _ in range(_TRIES):
        numbers = sorted(map(int, claims.names()))
        last, over = (numbers[-1] if numbers else 0), None
        if last:
            text = claims.read(str(last))
            if text is None:
                continue
            found = Holder.parse(text)
            if not _free(claims, str(last), found, mine, adopt=adopt) and not (patient and _ran_out(claims, str(last), found)):
                raise held(target, found)
            over = found.run
        mine = replace(mine, over=over, clock=clock())
        lease = Lease(last + 1, mine.run, mine.span, mine.shared)
        if not claims.create(lease.name, mine.text()):
            continue
        if _highest(claims, lease, last, over):
            for number in numbers:
                claims.remove(str(number))
            _begin(claims, lease, mine)
            return lease
        claims.remove(lease.name)
        time.sleep(0.01)
    raise TargetHeldError(f"{target}: its lease changes hands too fast")


def held(target: str, found: Holder) -> TargetHeldError:
    """The error that says who holds a target."""
    return TargetHeldError(
        f"{target}: expected a target that no run holds, found one held by {found} "
        f"(its lease runs out {found.span:g} s after that run's end)"
    )


def _highest(claims: Claims, lease: Lease, last: int, over: str | None) -> bool:
    """Whether a claim just created follows on the one that it supersedes, and nothing follows on it.

    What was listed before it was created may have changed: whoever then held may have ended and taken all claims away.
    """
    if max(map(int, claims.names()), default=0) != lease.number:
        return False
    text = claims.read(str(last)) if last else None
    return not last or (text is not None and Holder.parse(text).run == over)


def _free(claims: Claims, name: str, found: Holder, here: Holder, *, adopt: bool, watch: bool = True) -> bool:
    """Whether a claim may be superseded; `watch` it where nothing else tells."""
    if found.released or found.dead(here) or (found.shared and adopt):
        return True
    if found.same_process(here) and (
        found.shared or not (found.run in _beginning or found.run in _watches)
    ):  # ended, though it could not say so
        return True
    age = claims.age(name)
    if age is None and found.machine and found.machine == here.machine:
        age = here.clock - found.clock
    if age is None:
        return not watch or _ran_out(claims, name, found)
    return age > found.span


def _ran_out(claims: Claims, name: str, found: Holder) -> bool:
    """Watch a claim for its span: whether it is not renewed."""
    first, end = claims.sign(name), clock() + found.span
    while clock() < end:
        time.sleep(min(found.span / 20, 1.0))
        if claims.sign(name) != first:
            return False
    return True


def _begin(claims: Claims, lease: Lease, mine: Holder) -> None:
    watch = _watches[lease.run] = _Watch(mine.clock + lease.span * (_RENEWALS - 1) / _RENEWALS, mine)
    if not lease.shared:
        threading.Thread(target=_keep, args=(claims, lease, watch), name="h5z-lease", daemon=True).start()


def _keep(claims: Claims, lease: Lease, watch: _Watch) -> None:
    """Renew a lease until it is released or lost."""
    while not watch.ended.wait(lease.span / _RENEWALS):
        with watch.lock, suppress(Exception):  # what fails is tried again; who writes meanwhile sees it in `check`
            _renew(claims, lease, watch)
        if watch.lost:
            return


def _renew(claims: Claims, lease: Lease, watch: _Watch) -> None:
    """Renew a lease, then see that nobody has superseded it meanwhile."""
    start = clock()
    _see(claims, lease, watch)
    if watch.holder is not None and not watch.ended.is_set():
        watch.holder = replace(watch.holder, renewals=watch.holder.renewals + 1, clock=start)
        claims.renew(lease.name, watch.holder.text())
    elif lease.shared:
        text = claims.read(lease.name)
        if text is not None:
            found = Holder.parse(text)
            claims.renew(lease.name, replace(found, renewals=found.renewals + 1, released=False).text())
    _see(claims, lease, watch)
    watch.until = start + lease.span * (1 if watch.holder is None else _RENEWALS - 1) / _RENEWALS


def _see(claims: Claims, lease: Lease, watch: _Watch) -> None:
    """Note it if a lease is lost: its claim is gone, or another's names it as superseded."""
    text = claims.read(lease.name)
    if text is None or Holder.parse(text).run != lease.run:
        watch.lost = "its lease was removed, or the target was"
    text = claims.read(str(lease.number + 1))
    if text is not None and Holder.parse(text).over == lease.run:
        watch.lost = f"taken over by {Holder.parse(text)}"


def check(claims: Claims, lease: Lease, target: str, *, now: bool = False) -> None:
    """See that a run still holds its target, before it writes: by this process's own clock, or by asking the store.

    Parameters
    ----------
    now : bool
        Ask the store in any case.

    Raises
    ------
    LeaseLostError
        If it does not, or that cannot be told any more.
    """
    watch = _watches.setdefault(lease.run, _Watch())
    if not now and not watch.lost and clock() < watch.until:
        return
    with watch.lock:
        if now or clock() >= watch.until:
            try:
                _renew(claims, lease, watch)
            except H5zError:
                raise
            except Exception as error:
                raise LeaseLostError(f"{target}: its lease could not be renewed ({one_line(error)})") from None
        if watch.holder is None and not lease.shared:
            _still_alive(claims, lease, watch)
    if watch.lost:
        raise LeaseLostError(f"{target}: this run no longer holds it: {watch.lost}")


def _still_alive(claims: Claims, lease: Lease, watch: _Watch) -> None:
    """Note it if the run that renews a lease, in another process, has died."""
    sign = claims.sign(lease.name)
    if watch.seen is None or watch.seen[0] != sign:
        watch.seen = sign, clock()
    elif clock() - watch.seen[1] > lease.span:
        watch.lost = "its run has ended"


@contextmanager
def ending(lease: Lease) -> Iterator[None]:
    """The end of a run: whatever comes of it, nothing renews its lease any more, and the next run of this process is free."""
    watch = _watches.setdefault(lease.run, _Watch())
    watch.ended.set()
    try:
        yield
    finally:
        _watches.pop(lease.run, None)


def let_go(claims: Claims, lease: Lease, *, remove: bool) -> None:
    """Retire a lease's claim, or remove it where the run leaves nothing else behind; one that is lost is let be."""
    watch = _watches.setdefault(lease.run, _Watch())
    with watch.lock:
        if clock() >= watch.until:
            _see(claims, lease, watch)
        if watch.lost:
            return
        if remove:
            claims.remove(lease.name)
        elif watch.holder is not None:
            claims.retire(lease.name, replace(watch.holder, released=True).text())
