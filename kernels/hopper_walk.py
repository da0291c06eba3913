"""What the two Hopper kernels share: which block of rows a program does next, the key blocks it walks, and how
scattered rows come into shared memory. sm_90a only.

A *work item* is one block of query rows of one sequence, for the query heads that share a KV head. Its keys lie in two
*parts*: the cached prefix, scattered over slots, and the new tokens, one after the other. Of each part some key blocks
are seen whole by every row and the others need a mask. The *walk* of an item takes the masked blocks of the prefix, the
masked blocks of the new tokens, then the whole blocks of both, so that two loops do: one with masks, one without.
"""

from typing import NamedTuple

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import async_copy, mbarrier
from triton.language.core import _aggregate as aggregate

# Triton 3.9 has the same copy under another name.
copy_rows = getattr(async_copy, "async_load", None) or async_copy.async_copy_global_to_shared


@aggregate
class Batch:
    """What all items of a launch have in common: the sequences, how they are cut, what is visible."""

    qo_indptr: gl.tensor
    kv_indptr: gl.tensor
    kv_indices: gl.tensor
    counter: gl.tensor  # [2] int32: items drawn beyond the first of each program; programs that are done
    num_blocks: gl.tensor  # blocks of rows of the longest sequence
    head_groups: gl.tensor  # groups of PACK query heads
    sequences: gl.tensor
    section: gl.tensor  # (sequence, head group) pairs done side by side, so that their K and V stay in L2
    ROWS: gl.constexpr  # rows of an item: tokens times PACK
    PACK: gl.constexpr  # query heads of one KV head in an item
    BLOCK_N: gl.constexpr
    WINDOW_LEFT: gl.constexpr
    IS_CAUSAL: gl.constexpr
    LOGIT_CAP: gl.constexpr  # soft cap of the scores; 0: none

    @gluon.constexpr_function
    def __init__(
        self, qo_indptr, kv_indptr, kv_indices, counter, num_blocks, head_groups, sequences, section,
        ROWS, PACK, BLOCK_N, WINDOW_LEFT, IS_CAUSAL, LOGIT_CAP,
    ):  # fmt: skip
        self.qo_indptr = qo_indptr
        self.kv_indptr = kv_indptr
        self.kv_indices = kv_indices
        self.counter = counter
        self.num_blocks = num_blocks
        self.head_groups = head_groups
        self.sequences = sequences
        self.section = section
        self.ROWS = gl.constexpr(ROWS)
        self.PACK = gl.constexpr(PACK)
        self.BLOCK_N = gl.constexpr(BLOCK_N)
        self.WINDOW_LEFT = gl.constexpr(WINDOW_LEFT)
        self.IS_CAUSAL = gl.constexpr(IS_CAUSAL)
        self.LOGIT_CAP = gl.constexpr(LOGIT_CAP)


class Part(NamedTuple):
    """The key blocks of one part: `masked` blocks from `start` on, jumping over the stretch that is seen whole."""

    start: gl.tensor
    masked: gl.tensor  # number of blocks that need a mask
    whole_start: gl.tensor
    whole: gl.tensor  # number of blocks that need none
    gap: gl.tensor  # keys in them
    key_len: gl.tensor


class Item(NamedTuple):
    """One block of rows: where it lies and what it walks."""

    first_head: gl.tensor
    first_token: gl.tensor
    token_start: gl.tensor
    extend_len: gl.tensor
    slot_start: gl.tensor
    prefix_len: gl.tensor
    prefix: Part
    new: Part


class Rows(NamedTuple):
    """q or the output, [tokens, heads, dim]; strides in elements."""

    base: gl.tensor
    token_stride: gl.tensor
    head_stride: gl.tensor


class Factors(NamedTuple):
    """The launch's scales, and a sink per query head (or None)."""

    sm_scale: gl.tensor
    k_scale: gl.tensor
    v_scale: gl.tensor
    sinks: gl.tensor


class Memory(NamedTuple):
    """One of K and V: the cache (`buffer`, by slot) and the new tokens (`fresh`, by token), strides in elements."""

    buffer: gl.tensor
    buffer_stride: gl.tensor
    buffer_head_stride: gl.tensor
    fresh: gl.tensor
    fresh_stride: gl.tensor
    fresh_head_stride: gl.tensor


class Source(NamedTuple):
    """K or V of one item: the same two places, at the item's KV head."""

    buffer: gl.tensor
    buffer_stride: gl.tensor
    fresh: gl.tensor
    fresh_stride: gl.tensor


@aggregate
class Ring:
    """Tiles in shared memory that are filled and emptied in turn, a barrier each way for each.

    `full` completes when every loading thread's copies into the tile have landed, `empty` when every computing group
    is done with it. `rest` holds the columns beyond the first 128 of head dim 192 (tiles need powers of two); where
    there are none it is `tiles` again and REST false.
    """

    tiles: gl.shared_memory_descriptor
    rest: gl.shared_memory_descriptor
    full: gl.shared_memory_descriptor
    empty: gl.shared_memory_descriptor
    STAGES: gl.constexpr
    REST: gl.constexpr

    @gluon.constexpr_function
    def __init__(self, tiles, rest, full, empty, STAGES, REST):
        self.tiles = tiles
        self.rest = rest
        self.full = full
        self.empty = empty
        self.STAGES = gl.constexpr(STAGES)
        self.REST = gl.constexpr(REST)


class Board(NamedTuple):
    """Where the loader writes the number of the item it draws, for the computing groups to read; -1: no more."""

    numbers: gl.shared_memory_descriptor
    full: gl.shared_memory_descriptor


# --- which item, which key blocks ----------------------------------------------------------------------------------


@gluon.jit
def _part(first_token, last_token, prefix_len, extend_len, batch, PREFIX: gl.constexpr):
    """Visible to some row: from `low` to `high`. Visible to all: the whole key blocks from `whole_low` to
    `whole_high`."""
    BLOCK_N: gl.constexpr = batch.BLOCK_N
    query = prefix_len if PREFIX else 0  # where the new tokens begin, counted in this part's keys
    high = prefix_len if PREFIX else extend_len
    whole_high = high // BLOCK_N * BLOCK_N
    low = 0
    whole_low = 0
    if batch.WINDOW_LEFT >= 0:
        low = gl.maximum(query + first_token - batch.WINDOW_LEFT, 0) // BLOCK_N * BLOCK_N
        whole_low = (gl.maximum(query + last_token - batch.WINDOW_LEFT, 0) + BLOCK_N - 1) // BLOCK_N * BLOCK_N
    if batch.IS_CAUSAL and not PREFIX:
        high = last_token + 1
        whole_high = (first_token + 1) // BLOCK_N * BLOCK_N
    whole_low = gl.maximum(gl.minimum(whole_low, whole_high), low)
    gap = gl.maximum(whole_high, whole_low) - whole_low
    masked = gl.maximum(high - gap - low + BLOCK_N - 1, 0) // BLOCK_N
    return Part(low, masked, whole_low, gap // BLOCK_N, gap, high)


@gluon.jit
def item_of(number, batch):
    """(whether there is such an item, the item): sections of pairs, within a section the heaviest blocks first."""
    pairs = batch.head_groups * batch.sequences
    exists = number < batch.num_blocks * pairs
    first_pair = number // (batch.num_blocks * batch.section) * batch.section
    width = gl.maximum(gl.minimum(batch.section, pairs - first_pair), 1)
    rest = number - first_pair * batch.num_blocks
    pair = gl.minimum(first_pair + rest % width, pairs - 1)
    sequence = pair // batch.head_groups
    token_start = gl.load(batch.qo_indptr + sequence)
    extend_len = gl.load(batch.qo_indptr + sequence + 1) - token_start
    slot_start = gl.load(batch.kv_indptr + sequence)
    prefix_len = gl.load(batch.kv_indptr + sequence + 1) - slot_start
    TOKENS: gl.constexpr = batch.ROWS // batch.PACK
    # A sequence with fewer blocks than the longest has none where its heaviest would be followed by a lighter one.
    first_token = ((extend_len + TOKENS - 1) // TOKENS - 1 - rest // width) * TOKENS
    last_token = gl.minimum(first_token + TOKENS, extend_len) - 1
    item = Item(
        pair % batch.head_groups * batch.PACK, first_token, token_start, extend_len, slot_start, prefix_len,
        _part(first_token, last_token, prefix_len, extend_len, batch, True),
        _part(first_token, last_token, prefix_len, extend_len, batch, False),
    )  # fmt: skip
    return exists & (first_token >= 0), item


@gluon.jit
def first_draw(batch):
    """The number of this program's first item that exists, or -1."""
    return _until_valid(gl.program_id(0), batch)


@gluon.jit
def next_draw(batch):
    """The same for its next item."""
    return _until_valid(_draw(batch), batch)


@gluon.jit
def _draw(batch):
    """A number nobody has had: items differ too much, in a batch of several sequences, to be dealt out beforehand."""
    return gl.num_programs(0) + gl.atomic_add(batch.counter, 1, sem="relaxed")


@gluon.jit
def _until_valid(number, batch):
    """The first draw from `number` on that is an item, -1 when they run out; short sequences leave gaps."""
    total = batch.num_blocks * batch.head_groups * batch.sequences
    valid, _ = item_of(number, batch)
    while (valid == 0) & (number < total):
        if batch.head_groups % batch.section == 0:
            # The section is of one sequence, so that the rest of it is a gap: on to the next, for everybody.
            size = batch.num_blocks * batch.section
            gl.atomic_max(batch.counter, (number // size + 1) * size - gl.num_programs(0), sem="relaxed")
        number = _draw(batch)
        valid, _ = item_of(number, batch)
    return gl.where(valid, number, -1)


@gluon.jit
def put_back(batch):
    """The last program to finish sets the counter to zero, for the next launch."""
    done = gl.atomic_add(batch.counter + 1, 1, sem="acq_rel")
    if done == gl.num_programs(0) - 1:
        gl.atomic_xchg(batch.counter, 0)
        gl.atomic_xchg(batch.counter + 1, 0)


@gluon.jit
def steps_of(item):
    """(key blocks of the walk, how many of them come first and need a mask)."""
    masked = item.prefix.masked + item.new.masked
    return masked + item.prefix.whole + item.new.whole, masked


@gluon.jit
def in_prefix(j, item):
    """Whether the j-th block of the walk, one that is seen whole, is one of the prefix."""
    return j < item.prefix.masked + item.new.masked + item.prefix.whole


@gluon.jit
def locate(j, item, BLOCK_N: gl.constexpr):
    """(whether it is a prefix block, its first key, how many keys its part has) of the j-th block of the walk."""
    prefix, new = item.prefix, item.new
    after_prefix = j - prefix.masked
    after_masked = after_prefix - new.masked
    after_whole = after_masked - prefix.whole
    in_masked_prefix = prefix.start + j * BLOCK_N
    in_masked_prefix = gl.where(in_masked_prefix < prefix.whole_start, in_masked_prefix, in_masked_prefix + prefix.gap)
    in_masked_new = new.start + after_prefix * BLOCK_N
    in_masked_new = gl.where(in_masked_new < new.whole_start, in_masked_new, in_masked_new + new.gap)
    in_whole = gl.where(
        after_whole < 0, prefix.whole_start + after_masked * BLOCK_N, new.whole_start + after_whole * BLOCK_N
    )
    begin = gl.where(after_prefix < 0, in_masked_prefix, gl.where(after_masked < 0, in_masked_new, in_whole))
    of_prefix = (after_prefix < 0) | ((after_masked >= 0) & (after_whole < 0))
    return of_prefix, begin, gl.where(of_prefix, prefix.key_len, new.key_len)


# --- from scattered rows to shared memory ---------------------------------------------------------------------------


@gluon.constexpr_function
def copy_layout():
    """[rows, pieces, 64 elements] by 4 warps: 8 threads copy a piece of 128 bytes, so a thread has few rows (4 to 8 of
    a tile), few slots and few addresses; the other pieces of a row are constants added to the same address."""
    return gl.BlockedLayout([1, 1, 8], [4, 1, 8], [4, 1, 1], [2, 1, 0])


@gluon.constexpr_function
def slot_layout(block_n):
    """[4 warps, the rows each copies]: a row in one thread, so that its slot is read and checked once."""
    rows = block_n // 4
    lanes = [[0, 2**i] if 2**i < rows else [0, 0] for i in range(5)]
    return gl.DistributedLinearLayout([], lanes, [[1, 0], [2, 0]], [], [4, rows])


@gluon.constexpr_function
def handed_layout(block_n):
    """The same rows where copy_layout has them: each in eight threads, and several in a thread."""
    rows = block_n // 4
    registers = [[0, 2**i] for i in range(2, 6) if 2**i < rows]
    return gl.DistributedLinearLayout(
        registers, [[0, 0], [0, 0], [0, 0], [0, 1], [0, 2]], [[1, 0], [2, 0]], [], [4, rows]
    )


@gluon.jit
def slot_offsets(BLOCK_N: gl.constexpr):
    """The row of each place of slot_layout: four rows a warp in turn."""
    SLOTS: gl.constexpr = slot_layout(BLOCK_N)
    warp = gl.arange(0, 4, layout=gl.SliceLayout(1, SLOTS))
    local = gl.arange(0, BLOCK_N // 4, layout=gl.SliceLayout(0, SLOTS))
    return (warp * 4)[:, None] + (local // 4 * 16 + local % 4)[None, :]


@gluon.jit
def hand_out(row, BLOCK_N: gl.constexpr):
    """[BLOCK_N] rows as copy_layout has them, of rows as slot_layout has them: a shuffle each, no shared memory."""
    HANDED: gl.constexpr = handed_layout(BLOCK_N)
    local = gl.arange(0, BLOCK_N // 4, layout=gl.SliceLayout(0, HANDED))
    warp = gl.arange(0, 4, layout=gl.SliceLayout(1, HANDED))
    row = gl.gather(row, local[None, :] + warp[:, None] * 0, 1)
    row = gl.permute(row.reshape([4, BLOCK_N // 16, 4]), (1, 0, 2)).reshape([BLOCK_N])
    return gl.convert_layout(row, gl.SliceLayout(1, gl.SliceLayout(2, copy_layout())), assert_trivial=True)


@gluon.jit
def source_of(memory, item, kv_head):
    """The item's K or V."""
    return Source(
        memory.buffer + kv_head * memory.buffer_head_stride,
        memory.buffer_stride,
        memory.fresh + item.token_start.to(gl.int64) * memory.fresh_stride + kv_head * memory.fresh_head_stride,
        memory.fresh_stride,
    )


@gluon.jit
def rows_of(j, item, batch, offsets):
    """(whether block j is one of the prefix, the row of each key as slot_layout has them): slots or token numbers.

    Keys past the end repeat the last one: finite numbers, whose scores a mask hides. Only hand_out waits for the slots.
    """
    of_prefix, begin, key_len = locate(j, item, batch.BLOCK_N)
    key = gl.maximum(gl.minimum(begin + offsets, key_len - 1), 0)
    slots = batch.kv_indices + item.slot_start
    row = gl.load(slots + key, mask=(key >= 0) & of_prefix, other=key.to(gl.int64)).to(gl.int32)
    return of_prefix, row


@gluon.jit
def pointers_of(source, of_prefix, row, dims, WIDE: gl.constexpr):
    """[rows, 1, 64] pointers to a row's first 128 bytes. Offsets of 32 bits cost two instructions a row and of 64 bits
    five; WIDE: the places are too large for the former."""
    stride = gl.where(of_prefix, source.buffer_stride, source.fresh_stride)
    offset = (row.to(gl.int64) if WIDE else row) * stride
    base = gl.where(of_prefix, source.buffer, source.fresh)
    return base + (offset[:, None][:, :, None] + dims[None, :][:, None, :])


@gluon.jit
def gather(tile, pointers, FIRST: gl.constexpr):
    """Start copying a [rows, columns] tile whose first column is column FIRST of the rows.

    One copy of all pieces: for one copy each, Triton would put a bar.sync between them.
    """
    WIDTH: gl.constexpr = pointers.shape[2]
    PIECE: gl.constexpr = gl.SliceLayout(0, gl.SliceLayout(2, pointers.type.layout))
    pieces = FIRST + gl.arange(0, tile.shape[1] // WIDTH, layout=PIECE) * WIDTH
    whole = (pointers + pieces[None, :][:, :, None]).reshape(tile.shape)
    copy_rows(tile, gl.max_contiguous(gl.multiple_of(whole, [1, 16]), [1, 8]))


@gluon.jit
def gather_into(ring, stage, pointers):
    """Start copying into a tile of the ring; its `full` completes by itself when the copies have landed."""
    gather(ring.tiles.index(stage), pointers, 0)
    if ring.REST:
        gather(ring.rest.index(stage), pointers, ring.tiles.shape[2])
    async_copy.mbarrier_arrive(ring.full.index(stage), increment_count=False)


@gluon.jit
def fill(ring, count, pointers):
    """Wait until the count-th tile is empty and start copying into it."""
    stage = count % ring.STAGES
    mbarrier.wait(ring.empty.index(stage), (count // ring.STAGES & 1) ^ 1)
    gather_into(ring, stage, pointers)


@gluon.jit
def load_q(q, item, batch, ring, items, rows, dims):
    """The item's rows of q, 64 to each computing group; rows past the end repeat the last token's."""
    for group in gl.static_range(ring.STAGES):
        mbarrier.wait(ring.empty.index(group), (items & 1) ^ 1)
        row = rows + group * 64
        token = item.token_start + gl.minimum(item.first_token + row // batch.PACK, item.extend_len - 1)
        offset = token.to(gl.int64) * q.token_stride + (item.first_head + row % batch.PACK) * q.head_stride
        gather_into(ring, group, q.base + (offset[:, None][:, :, None] + dims[None, :][:, None, :]))


@gluon.jit
def wait_full(ring, count, wanted):
    """Wait until the count-th tile is there (not at all unless `wanted`)."""
    mbarrier.wait(ring.full.index(count % ring.STAGES), count // ring.STAGES & 1, pred=wanted)


@gluon.jit
def release(ring, count):
    """This group no longer needs the count-th tile."""
    mbarrier.arrive(ring.empty.index(count % ring.STAGES))


@gluon.jit
def barriers(NUMBER: gl.constexpr, COUNT: gl.constexpr):
    """NUMBER barriers that complete after COUNT arrivals each."""
    all_of_them = gl.allocate_shared_memory(gl.int64, [NUMBER, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(NUMBER):
        mbarrier.init(all_of_them.index(i), count=COUNT)
    return all_of_them


@gluon.jit
def new_ring(DTYPE: gl.constexpr, STAGES: gl.constexpr, ROWS: gl.constexpr, DIM: gl.constexpr, READERS: gl.constexpr):
    """A ring of tiles that READERS groups of warps read."""
    TILE: gl.constexpr = gl.NVMMASharedLayout(128, 16, 2)
    MAIN: gl.constexpr = 128 if DIM == 192 else DIM
    tiles = gl.allocate_shared_memory(DTYPE, [STAGES, ROWS, MAIN], TILE)
    rest = tiles
    if DIM > MAIN:
        rest = gl.allocate_shared_memory(DTYPE, [STAGES, ROWS, DIM - MAIN], TILE)
    return Ring(tiles, rest, barriers(STAGES, 128), barriers(STAGES, READERS), STAGES, DIM > MAIN)


# --- the board ------------------------------------------------------------------------------------------------------


@gluon.jit
def new_board():
    numbers = gl.allocate_shared_memory(gl.int32, [2, 1], gl.SwizzledSharedLayout(1, 1, 1, [0]))
    return Board(numbers, barriers(2, 1))


@gluon.jit
def announce(board, items, number):
    """The loader's: the items-th item of this program is `number`. Two places do: by the time the third is written,
    the first was read, or its rows of q would not have been given free and the second's not loaded."""
    LAYOUT: gl.constexpr = gl.BlockedLayout([1], [32], [4], [0])
    board.numbers.index(items % 2).store(gl.full([1], number, gl.int32, layout=LAYOUT))
    mbarrier.arrive(board.full.index(items % 2))


@gluon.jit
def read_number(board, items, WARPS: gl.constexpr):
    """A computing group's: the number of the items-th item."""
    LAYOUT: gl.constexpr = gl.BlockedLayout([1], [32], [WARPS], [0])
    mbarrier.wait(board.full.index(items % 2), items // 2 & 1)
    return gl.max(board.numbers.index(items % 2).load(LAYOUT), 0)
