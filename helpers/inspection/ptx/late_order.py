"""An order of a block's instructions like the one ptxas will choose: late, and early where that frees registers.

LLVM hands ptxas its instructions in an order that takes no account of registers (every address first, then every load,
then the work). ptxas schedules anew, so demand in the order of the text says too much. Here memory operations, barriers
and tensor-core instructions keep their order; anything else is placed just before it is needed, and at once when it
frees more than it takes.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from helpers.inspection.ptx.graph import Block, Instruction

__all__ = ["late_order"]

# Opcodes (first words) that other instructions must not pass: stores, barriers, asynchronous work, whole-warp votes.
EFFECTS = frozenset(
    "st red atom bar barrier membar fence cp wgmma tcgen05 mbarrier stmatrix call bra brx ret exit trap griddepcontrol "
    "setmaxnreg elect shfl redux vote activemask match".split()
)
_LOADS = frozenset("ld ldmatrix ldu tex suld".split())
_PLAIN, _LOAD, _ROOT, _EFFECT = range(4)


def _kind(opcode: str) -> int:
    word = opcode.partition(".")[0]
    if word in EFFECTS:
        return _EFFECT
    if word in _LOADS and ".param" not in opcode:
        return _LOAD
    return _ROOT if word == "mma" else _PLAIN


def late_order(
    block: Block,
    instructions: Sequence[Instruction],
    *,
    uses: Sequence[AbstractSet[int]],
    defs: Sequence[AbstractSet[int]],
    skip: Sequence[bool],
    live_out: AbstractSet[int],
    halves: Sequence[int],
) -> list[int]:
    """The numbers of the block's instructions in that order, without those in `skip`.

    `uses` and `defs` are units by instruction, `halves` the half registers a unit takes. Dependences through units are
    kept (in all three directions), loads stay behind the effect before them and ahead of the one after.
    """
    return _Scheduler(block, instructions, uses, defs, skip, live_out, halves).run()


class _Scheduler:
    def __init__(
        self,
        block: Block,
        instructions: Sequence[Instruction],
        uses: Sequence[AbstractSet[int]],
        defs: Sequence[AbstractSet[int]],
        skip: Sequence[bool],
        live_out: AbstractSet[int],
        halves: Sequence[int],
    ) -> None:
        self.uses, self.defs, self.live_out, self.halves = uses, defs, live_out, halves
        self.needs: dict[int, set[int]] = {}
        self.kind: dict[int, int] = {}
        self.readers_left: dict[int, set[int]] = {}
        writer: dict[int, int] = {}
        readers: dict[int, list[int]] = {}
        effect: int | None = None
        loads: list[int] = []
        for at in range(block.first, block.last):
            if skip[at]:
                continue
            needs = {writer[u] for u in uses[at] if u in writer}
            for unit in defs[at]:
                if unit in writer:
                    needs.add(writer[unit])
                needs.update(readers.get(unit, ()))
            for unit in uses[at]:
                readers.setdefault(unit, []).append(at)
                self.readers_left.setdefault(unit, set()).add(at)
            for unit in defs[at]:
                writer[unit], readers[unit] = at, []
            self.kind[at] = kind = _kind(instructions[at].opcode)
            if kind in (_EFFECT, _LOAD) and effect is not None:
                needs.add(effect)
            if kind == _EFFECT:
                needs.update(loads)
                effect, loads = at, []
            elif kind == _LOAD:
                loads.append(at)
            needs.discard(at)
            self.needs[at] = needs
        self.waiting = {at: len(needs) for at, needs in self.needs.items()}
        self.followers: dict[int, list[int]] = {}
        for at, needs in self.needs.items():
            for before in needs:
                self.followers.setdefault(before, []).append(at)
        self.done: set[int] = set()
        self.order: list[int] = []

    def run(self) -> list[int]:
        for at in self.needs:
            if self.kind[at] >= _ROOT or not self.live_out.isdisjoint(self.defs[at]):
                self._pull(at)
        for at in self.needs:  # results nobody reads
            self._pull(at)
        return self.order

    def _pull(self, root: int) -> None:
        """Place `root` after everything it needs."""
        stack = [root]
        while stack:
            at = stack[-1]
            if at in self.done:
                stack.pop()
            elif self.waiting[at]:
                stack += sorted((n for n in self.needs[at] if n not in self.done), reverse=True)
            else:
                stack.pop()
                self._place(at)

    def _place(self, first: int) -> None:
        """Place an instruction, then whatever has thereby become a relief."""
        todo = [first]
        while todo:
            at = todo.pop()
            if at in self.done or self.waiting[at] or (at != first and self._takes(at) >= 0):
                continue
            self.done.add(at)
            self.order.append(at)
            for follower in self.followers.get(at, ()):
                self.waiting[follower] -= 1
                if not self.waiting[follower] and self.kind[follower] == _PLAIN:
                    todo.append(follower)
            for unit in self.uses[at]:
                left = self.readers_left[unit]
                left.discard(at)
                if len(left) == 1:
                    (reader,) = left
                    if not self.waiting[reader] and self.kind[reader] == _PLAIN:
                        todo.append(reader)

    def _takes(self, at: int) -> int:
        """Half registers more in use after the instruction than before it."""
        uses, defs = self.uses[at], self.defs[at]
        more = sum(self.halves[u] for u in defs if u not in uses)
        return more - sum(
            self.halves[u]
            for u in uses
            if u not in defs
            and u not in self.live_out
            and len(self.readers_left[u]) == 1
            and at in self.readers_left[u]
        )
