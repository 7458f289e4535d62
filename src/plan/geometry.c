/* SPDX-License-Identifier: Apache-2.0 */
/* geometry.c: how a pass is cut into tiles and strips, and where a tile's bytes lie in its slab. */
#include "kernel/divergence.h"
#include "kernel/rank.h"
#include "plan/compare.h"
#include "plan/measure.h"
#include "plan/prog.h"
#include "plan/select.h"

static void scale(u64 *from, u64 *n, u32 div, u32 mul) {
    *from = *from / LB_MAX(div, 1) * LB_MAX(mul, 1);
    *n = *n / LB_MAX(div, 1) * LB_MAX(mul, 1);
}

lb_rect lb_frame_rect(const lb_frame *f, lb_rect d) {
    lb_rect r = {0, 0, 0, 0};
    switch (f->row) {
    case LB_AXIS_ROWS:
        r.r0 = d.r0, r.nr = d.nr;
        break;
    case LB_AXIS_COLS:
        r.r0 = d.c0, r.nr = d.nc;
        break;
    case LB_AXIS_ONE:
        r.nr = 1;
        break;
    case LB_AXIS_ALL:
        r.nr = f->n_all;
        break;
    }
    if (f->row != LB_AXIS_ONE)
        scale(&r.r0, &r.nr, f->row_div, 1);
    switch (f->col) {
    case LB_AXIS_ROWS:
        r.c0 = d.r0, r.nc = d.nr;
        break;
    case LB_AXIS_COLS:
        r.c0 = d.c0, r.nc = d.nc;
        break;
    case LB_AXIS_ONE:
        r.nc = 1;
        return r;
    case LB_AXIS_ALL:
        r.c0 = f->col_shift, r.nc = f->n_all;
        return r;
    }
    scale(&r.c0, &r.nc, f->col_div, f->col_mul);
    r.c0 += f->col_shift;
    return r;
}

u64 lb_moves_row(const lb_moves *m, u64 row) {
    for (u32 i = 0; i < m->n; i++) {
        const lb_move *s = &m->step[i];
        u64 band = 2 * s->half, in_band;
        switch (s->op) {
        case LB_INDEX_RUNS:
            row = s->from + row / s->half * s->step + row % s->half;
            break;
        case LB_INDEX_ROWS:
            row = s->from + row * s->step;
            break;
        case LB_INDEX_HEADS:
            in_band = row % band;
            row = row - in_band + (in_band % 2) * s->half + in_band / 2;
            break;
        case LB_INDEX_UNHEADS:
            in_band = row % band;
            row = row - in_band + (in_band % s->half) * 2 + in_band / s->half;
            break;
        case LB_INDEX_GATHER:
            row = s->table[row];
            break;
        case LB_INDEX_STRIDES:
            row = lb_strides_at(s->strides, row);
            break;
        default:
            LB_ASSERT(false && "a move of rows");
        }
    }
    return row;
}

/* Outputs of a batch: half of an L2 of 1 MiB. */
#define LB_BATCH_BYTES (512 * LB_KIB)

static u64 align64(u64 n) {
    return (n + 63) & ~(u64)63;
}

lb_rect lb_leaf_rect(const lb_leaf *l, lb_rect domain) {
    lb_rect r = lb_frame_rect(&l->frame, domain);
    scale(&r.r0, &r.nr, 1, l->per_row);
    return r;
}

static lb_rect leaf_rect(const lb_leaf *l, lb_rect tile) {
    lb_rect r = lb_leaf_rect(l, tile);
    u64 unit = l->codec.unit_elems;
    if (unit > 1 && r.nc) { /* widened to whole units */
        u64 end = r.c0 + r.nc;
        r.c0 -= r.c0 % unit;
        end = LB_MIN(lb_ceil_div_u64(end, unit) * unit, l->n_cols);
        r.nc = end - r.c0;
    }
    return r;
}

static u64 part_row_bytes(const lb_leaf *l, u32 p, u64 n_cols) {
    return n_cols / l->codec.unit_elems * l->codec.part[p].unit_bytes;
}

/* MAT parts are read whole: one element a matrix. */
static u64 mat_bytes(const lb_leaf *l, u32 p) {
    return l->n_rows / l->codec.rows_per_mat * l->codec.part[p].unit_bytes;
}

lb_rect lb_leaf_held(const lb_leaf *l, lb_rect r) {
    u64 first = UINT64_MAX, last = 0;
    if (!l->codec.transposed || l->moves.n == 0 || r.nr == 0)
        return r;
    for (u64 i = 0; i < r.nr; i++) {
        u64 row = lb_moves_row(&l->moves, r.r0 + i);
        first = LB_MIN(first, row);
        last = LB_MAX(last, row);
    }
    return (lb_rect){first, last - first + 1, r.c0, r.nc};
}

u64 lb_leaf_copy_bytes(const lb_leaf *l, u32 p, u64 row_bytes) {
    return l->codec.part[p].stored_rows * row_bytes;
}

/* Bytes of a part in the slab, and of one of its rows there. */
static u64 part_bytes(const lb_leaf *l, u32 p, lb_rect r, u64 *row_bytes) {
    const lb_codec_part *part = &l->codec.part[p];
    *row_bytes = 0;
    if (part->kind == LB_PART_MAT)
        return mat_bytes(l, p);
    if (part->kind == LB_PART_ROWS) {
        *row_bytes = part_row_bytes(l, p, r.nc);
        return r.nr * *row_bytes;
    }
    lb_codec_span s = lb_codec_span_of(&l->codec, p, lb_leaf_held(l, r));
    *row_bytes = s.row_bytes;
    if (l->moves.n == 0 || l->codec.transposed)
        return s.n_rows * s.row_bytes;
    if (part->kind == LB_PART_FLAT) /* where a row begins within a unit decides */
        *row_bytes = lb_codec_span_max(&l->codec, p, 1, r.nc);
    return r.nr * lb_leaf_copy_bytes(l, p, *row_bytes);
}

static u64 stat_bytes(const lb_pass *p, const lb_node *n, lb_rect r) {
    switch (n->op) {
    case LB_STAT_RANGE:
        return 16;
    case LB_STAT_KTH:
        return lb_select_part_bytes(n, p->n_rows * p->n_cols, p->select_cap, r.nr * r.nc);
    case LB_STAT_COLS:
        return lb_ceil_div_u64(r.nr, LB_COLS_BLOCK) * r.nc * sizeof(double);
    case LB_STAT_GRAM:
    case LB_STAT_NORMS1:
    case LB_STAT_NORMS2:
        return (u64)lb_stat_n_wide(n->op, n->n_in) * r.nr * lb_ceil_div_u64(r.nc, LB_FOLD_LEAF) *
               sizeof(double);
    case LB_STAT_ERROR:
        return n->u.stat.measure->n * r.nr * lb_ceil_div_u64(r.nc, LB_FOLD_LEAF) * sizeof(double);
    case LB_STAT_COMPARE:
        return r.nr * lb_ceil_div_u64(r.nc, LB_FOLD_LEAF) * sizeof(lb_compare);
    default:
        return r.nr * lb_ceil_div_u64(r.nc, LB_FOLD_LEAF) * sizeof(double);
    }
}

u64 lb_inst_bytes(const lb_inst *x, u64 n_rows, u64 n_cols) {
    const lb_node *y = x->node;
    bool once = y->u.encode.once;
    u64 bands = once ? 1 : lb_ceil_div_u64(n_rows, y->u.encode.rows), bytes = 0;
    u64 n = bands * (once ? 1 : lb_ceil_div_u64(n_cols, y->u.encode.cols)) * y->u.encode.elems;
    bool ok = lb_dtype_bytes((lb_dtype)y->op, n, &bytes);
    LB_ASSERT(ok && (y->u.encode.rows > 1 || once || n_cols % y->u.encode.cols == 0)); /* units() */
    return bytes;
}

u64 lb_tile_layout(const lb_pass *p, lb_rect tile, lb_layout_leaf *leaf, u64 *inst_off) {
    u64 at = 0, first_part[LB_LEAVES_MAX];
    for (u32 i = 0; i < p->n_leaves; i++) {
        const lb_leaf *l = &p->leaves[i];
        lb_rect r = leaf_rect(l, tile);
        first_part[i] = at;
        if (leaf)
            leaf[i].rect = r;
        for (u32 k = 0; k < l->codec.n_parts; k++) {
            u64 row_bytes, size = part_bytes(l, k, r, &row_bytes);
            if (leaf) {
                leaf[i].part_off[k] = at;
                leaf[i].row_bytes[k] = row_bytes;
            }
            at = align64(at + size);
        }
    }
    for (u32 i = 0; i < p->n_insts; i++) {
        const lb_inst *x = &p->insts[i];
        u64 size = 0;
        if (inst_off)
            inst_off[i] = at;
        if (x->role == LB_INST_HOLD) {
            if (x->spill || x->kept)
                size = tile.nr * tile.nc * sizeof(float);
        } else if (x->role != LB_INST_COMPUTE) {
            size = 0;
        } else if (x->node->kind == LB_NODE_ENCODE) {
            if (lb_inst_copies(x)) {
                if (inst_off)
                    inst_off[i] = first_part[x->leaf];
            } else {
                u64 rows = p->batch_rows ? LB_MIN(tile.nr, p->batch_rows) : tile.nr;
                size = lb_inst_bytes(x, rows, tile.nc);
            }
        } else if (x->node->kind == LB_NODE_STAT) {
            size = stat_bytes(p, x->node, tile);
        } else if (lb_inst_draws(x)) {
            size = tile.nr * tile.nc;
            size = x->node->op == LB_MAKE_UNIFORM ? size * sizeof(float) : size / 8 + 1;
        }
        at = align64(at + size);
    }
    return at;
}

u64 lb_tile_read_bytes(const lb_pass *p, lb_rect tile) {
    u64 n = 0;
    for (u32 i = 0; i < p->n_leaves; i++) {
        const lb_leaf *l = &p->leaves[i];
        lb_rect r = leaf_rect(l, tile);
        u64 row_bytes;
        for (u32 k = 0; k < l->codec.n_parts; k++)
            n += part_bytes(l, k, r, &row_bytes);
    }
    return n;
}

lb_rect lb_pass_tile(const lb_pass *p, u64 tile) {
    u64 r = tile / p->tiles_per_row * p->tile_rows, c = tile % p->tiles_per_row * p->tile_cols;
    return (lb_rect){r, LB_MIN(p->tile_rows, p->n_rows - r), c,
                     LB_MIN(p->tile_cols, p->n_cols - c)};
}

static u64 slab_of(const lb_pass *p, u64 nr, u64 nc) {
    return lb_tile_layout(p, (lb_rect){0, LB_MIN(nr, p->n_rows), 0, LB_MIN(nc, p->n_cols)}, NULL,
                          NULL);
}

bool lb_pass_can_cut_rows(const lb_pass *p) {
    if (p->full_cols || p->swapped || p->across || p->unit_rows != 1)
        return false;
    for (u32 i = 0; i < p->n_leaves; i++)
        if (p->leaves[i].frame.col == LB_AXIS_ALL || p->leaves[i].frame.row == LB_AXIS_ALL)
            return false;
    return true;
}

/* Whether all that the pass does with its values is writing them. */
static bool only_encodes(const lb_pass *p) {
    u32 n = 0;
    for (u32 i = 0; i < p->n_insts; i++) {
        const lb_inst *x = &p->insts[i];
        if (x->role == LB_INST_HOLD || x->node->kind == LB_NODE_STAT || lb_inst_copies(x) ||
            lb_inst_draws(x))
            return false;
        n += x->node->kind == LB_NODE_ENCODE;
    }
    return n > 0;
}

/* Bytes of the outputs' rows. */
static u64 out_bytes(const lb_pass *p, u64 n_rows) {
    u64 n = 0;
    for (u32 i = 0; i < p->n_insts; i++)
        if (p->insts[i].node->kind == LB_NODE_ENCODE)
            n += lb_inst_bytes(&p->insts[i], n_rows, p->n_cols);
    return n;
}

/* A matrix whose columns are rows of the file: in one tile if it can be, so that its bytes are read
 * in order, once, and hashed as they come; else in tiles of as many rows as have room, since those
 * are runs in the file. Of the outputs so many rows have room as an L2 keeps until they are written
 * and hashed. False: not even that. */
static bool fit_batches(lb_pass *p, u64 whole_max, u64 max) {
    u64 unit = lb_ceil_div_u64(LB_ACROSS_ROWS, p->unit_rows) * p->unit_rows;
    u64 rows = LB_MIN(LB_BATCH_BYTES, max / 2) / LB_MAX(out_bytes(p, 1), 1);
    p->batch_rows = LB_MAX(rows / unit, 1) * unit;
    bool fits = only_encodes(p) && slab_of(p, LB_MIN(unit, p->n_rows), p->n_cols) <= max;
    if (fits && slab_of(p, p->n_rows, p->n_cols) > whole_max) {
        u64 one = slab_of(p, p->batch_rows, p->n_cols),
            two = slab_of(p, 2 * p->batch_rows, p->n_cols);
        u64 more = max > one ? (max - one) / LB_MAX(two - one, 1) : 0; /* of the inputs alone */
        p->tile_rows = LB_MIN((1 + more) * p->batch_rows, p->n_rows);
        fits = slab_of(p, p->tile_rows, p->n_cols) <= max;
    }
    if (!fits) {
        p->tile_rows = p->n_rows;
        p->batch_rows = 0;
    }
    return fits;
}

/* What selections need in a tile of any size. */
static u64 select_bytes(const lb_pass *p) {
    u64 n = 0;
    for (u32 i = 0; i < p->n_insts && p->select_cap; i++)
        if (p->insts[i].node->kind == LB_NODE_STAT && p->insts[i].role == LB_INST_COMPUTE)
            n += stat_bytes(p, p->insts[i].node, (lb_rect){0, 0, 0, 0});
    return n;
}

static void fit_tile(lb_pass *p, u64 target) {
    target += select_bytes(p);
    p->tile_rows = p->n_rows;
    p->tile_cols = p->n_cols;
    u64 whole = slab_of(p, p->n_rows, p->n_cols);
    bool strips = p->swapped || p->across;
    p->batch_rows = 0;
    if (strips && fit_batches(p, 64 * target, (p->swapped ? 64 : 8) * target))
        return;
    /* A column strip of a file is dear to read: take more at a time. Of codes eight times as many
     * bytes are runs of some KiB, and cost less than 64 times (4 bits, 4096 x 4096, an EPYC). */
    if (strips)
        target = LB_MIN(LB_MAX(whole, target), (p->swapped ? 64 : 8) * target);
    if (whole <= target)
        return;
    u64 unit_rows = p->unit_rows;
    if (strips) /* at least 64 columns of the file */
        unit_rows *= lb_ceil_div_u64(LB_ACROSS_ROWS, unit_rows);
    u64 row_bytes = slab_of(p, unit_rows, p->n_cols);
    if (row_bytes <= target || !lb_pass_can_cut_rows(p)) {
        p->tile_rows = LB_MIN(LB_MAX(target / LB_MAX(row_bytes, 1), 1) * unit_rows, p->n_rows);
        return;
    }
    u64 unit_bytes = slab_of(p, 1, p->unit_cols);
    p->tile_rows = 1;
    p->tile_cols = LB_MIN(LB_MAX(target / LB_MAX(unit_bytes, 1), 1) * p->unit_cols, p->n_cols);
}

/* Values of the widest slot for one row. */
static u64 widest(const lb_pass *p) {
    u64 most = p->tile_cols;
    for (u32 i = 0; i < p->n_insts; i++) {
        const lb_frame *f = &p->insts[i].frame;
        if (f->col == LB_AXIS_ALL || f->row == LB_AXIS_ALL)
            most = LB_MAX(most, f->n_all);
    }
    return LB_MAX(most, 1);
}

/* Rows of a product at a time, at least: what its kernel has in registers twice over. */
#define PRODUCT_ROWS 16

static void fit_strip(lb_pass *p) {
    u64 cap = LB_STRIP_ELEMS, wide = widest(p), rows = cap / wide;
    if (wide > p->tile_cols)
        rows = LB_MAX(rows, PRODUCT_ROWS);
    p->strip_rows = p->tile_rows;
    p->strip_cols = p->tile_cols;
    if (p->tile_rows * wide <= cap && !p->batch_rows)
        return;
    if (p->batch_rows && !p->full_cols) {
        rows = LB_MIN(p->batch_rows, lb_ceil_div_u64(LB_ACROSS_ROWS, p->unit_rows) * p->unit_rows);
        p->strip_rows = LB_MIN(rows, p->tile_rows);
        p->strip_cols = LB_MIN(LB_MAX(cap / rows / p->unit_cols, 1) * p->unit_cols, p->tile_cols);
        return;
    }
    if (p->band > 1) { /* whole bands, in few columns unless rows are wanted whole */
        u64 cols = LB_MAX(cap / p->band / p->unit_cols, 1) * p->unit_cols;
        bool whole = p->full_cols || p->swapped || p->across || cols >= p->tile_cols;
        p->strip_rows = LB_MIN(whole ? LB_MAX(rows / p->band, 1) * p->band : p->band, p->tile_rows);
        p->strip_cols = whole ? p->tile_cols : cols;
        return;
    }
    if (p->swapped ||
        p->across) { /* whole bands, and as many as are worth a visit of all columns */
        rows = lb_ceil_div_u64(LB_MAX(rows, LB_ACROSS_ROWS), p->unit_rows) * p->unit_rows;
        p->strip_rows = LB_MIN(rows, p->tile_rows);
        return;
    }
    if (p->tile_cols > cap && !p->full_cols) {
        p->strip_rows = 1;
        p->strip_cols = LB_MIN(LB_MAX(cap / p->unit_cols, 1) * p->unit_cols, p->tile_cols);
        return;
    }
    p->strip_rows = LB_MAX(rows, 1);
}

/* What decoding a strip of a transposed encoding needs at most. A tile that goes on in its middle
 * begins anywhere: its strips lie within two neighbours of the others. */
static u64 rect_scratch(const lb_leaf *l, const lb_pass *p, lb_rect strip) {
    u64 rows = strip.nr, step = LB_MAX(strip.nr, 1);
    if (l->moves.n == 0 || l->frame.row == LB_AXIS_ONE)
        return lb_codec_rect_scratch(&l->codec, rows, strip.nc);
    u64 n = lb_frame_rect(&l->frame, (lb_rect){0, p->n_rows, 0, p->n_cols}).nr;
    for (u64 r = 0; r < n; r += step) {
        lb_rect two = {r, LB_MIN(2 * step, n - r), strip.c0, strip.nc};
        rows = LB_MAX(rows, lb_leaf_held(l, two).nr);
    }
    return lb_codec_rect_scratch(&l->codec, rows, strip.nc) + strip.nr + 16;
}

static void fit_scratch(lb_pass *p) {
    lb_rect strip = {0, LB_MIN(p->strip_rows, p->n_rows), 0, LB_MIN(p->strip_cols, p->n_cols)};
    u64 codec = 0;
    p->slot_elems = 0;
    for (u32 i = 0; i < p->n_insts; i++) {
        const lb_inst *x = &p->insts[i];
        lb_rect r = lb_frame_rect(&x->frame, strip);
        if (x->slot != LB_NO_SLOT)
            p->slot_elems = LB_MAX(p->slot_elems, r.nr * r.nc);
        if (x->node->kind == LB_NODE_STAT && x->node->op == LB_STAT_ERROR &&
            x->role == LB_INST_COMPUTE)
            codec = LB_MAX(codec, lb_measure_scratch_elems(x->node->u.stat.measure, r.nr * r.nc));
        if (x->node->kind == LB_NODE_ROW && x->node->op == LB_ROW_ODDS)
            codec = LB_MAX(codec, lb_odds_elems(r.nc) + LB_RANK_SCRATCH(r.nc));
        if (x->node->kind == LB_NODE_ROW && x->node->op == LB_ROW_KL)
            codec = LB_MAX(codec, LB_KL_SCRATCH(r.nc));
        if (x->node->kind == LB_NODE_STAT && x->node->op == LB_STAT_COMPARE)
            codec = LB_MAX(codec, LB_MIN(r.nc, LB_FOLD_LEAF));
        if (x->role == LB_INST_SPILLED ||
            (x->role == LB_INST_COMPUTE && x->node->kind == LB_NODE_DECODE)) {
            const lb_leaf *l = &p->leaves[x->leaf];
            if (l->codec.transposed) {
                codec = LB_MAX(codec, rect_scratch(l, p, r));
                continue;
            }
            u64 wide = r.nr * (r.nc + 2 * l->codec.unit_elems);
            u64 n = lb_codec_scratch_elems(&l->codec, l->codec.by_row ? r.nc : wide) + 2;
            if (l->codec.unit_elems >
                1) /* columns that are not whole units are decoded beside and cut */
                n += r.nc + 2 * l->codec.unit_elems;
            codec = LB_MAX(codec, n);
        }
    }
    p->slot_elems = (p->slot_elems + 15) & ~(u64)15;
    p->codec_elems = (codec + 15) & ~(u64)15;
    p->scratch_bytes = (p->n_slots * p->slot_elems + p->codec_elems) * sizeof(float);
}

/* ---- figures of all tiles without looking at each ---- */

#define PERIOD_MAX 65536 /* rows or columns; beyond it every tile is looked at */

/* The least common multiple, 0 if that is too much to be of use. */
static u64 common(u64 a, u64 b) {
    if (a == 0 || b == 0 || b > PERIOD_MAX || a / lb_gcd_u64(a, b) > PERIOD_MAX / b)
        return 0;
    return a / lb_gcd_u64(a, b) * b;
}

/* Rows and columns after which the blocks of a part begin again as they did. */
static void part_period(const lb_leaf *l, const lb_codec_part *part, u64 *rows, u64 *cols) {
    bool cut = part->mat_rows < l->n_rows && part->mat_rows % part->rows != 0;
    *rows = cut ? part->mat_rows : part->rows;
    *cols = LB_MAX(part->cols, (u64)1);
    if (part->kind == LB_PART_FLAT) { /* a row begins where the one before it ends */
        *rows = part->cols / lb_gcd_u64(part->cols, LB_MAX(l->codec.n_cols, (u64)1));
    } else if (l->codec.transposed) {
        *rows = *cols;
        *cols = part->rows;
    }
}

/* After how many rows (columns) of the pass every leaf's blocks begin again as they did; 0: never.
 */
static u64 axis_period(const lb_pass *p, lb_axis axis) {
    u64 n = 1;
    for (u32 i = 0; i < p->n_leaves; i++) {
        const lb_leaf *l = &p->leaves[i];
        u64 rows = 1, cols = l->codec.unit_elems, r, c;
        for (u32 k = 0; k < l->codec.n_parts; k++) {
            const lb_codec_part *part = &l->codec.part[k];
            if (part->kind != LB_PART_GRID && part->kind != LB_PART_FLAT)
                continue;
            part_period(l, part, &r, &c);
            rows = common(rows, r);
            cols = common(cols, c);
        }
        if (l->moves.n) /* the blocks of each row are there for themselves, or in a range */
            rows = l->codec.transposed ? 0 : 1;
        if (l->frame.row == axis)
            n = common(n, rows * LB_MAX(l->frame.row_div, (u32)1));
        if (l->frame.col == axis)
            n = common(n, cols * LB_MAX(l->frame.col_div, (u32)1));
    }
    return n;
}

/* Whether blocks of one size are all that a tile's place along the axis makes a difference to, in
 * one stored row each: then it is only how many of them it touches. */
static bool one_block_size(const lb_pass *p, lb_axis axis, u64 size) {
    for (u32 i = 0; i < p->n_leaves; i++) {
        const lb_leaf *l = &p->leaves[i];
        bool down = l->frame.row == axis && !l->moves.n, across = l->frame.col == axis;
        if (across && (l->codec.unit_elems > 1 || l->frame.col_shift))
            return false;
        if ((down && l->frame.row_div > 1) || (across && l->frame.col_div > 1))
            return false;
        for (u32 k = 0; k < l->codec.n_parts; k++) {
            const lb_codec_part *part = &l->codec.part[k];
            if (part->kind == LB_PART_FLAT || l->codec.transposed)
                return false;
            if (part->kind == LB_PART_GRID &&
                ((down && (part->rows != size || part->stored_rows != 1)) ||
                 (across && part->cols != size)))
                return false;
        }
    }
    return true;
}

/* Tiles along an axis. Where all that counts is how many blocks a tile touches, one of each kind
 * stands for all but the last. Else the first `period` stand for all before number `rest`, the
 * others each for itself, among them the last ones: ends of tensors are in them. */
typedef struct tile_classes {
    u64 period, rest, n;
    u32 n_kinds;
    u64 kind_tile[2], kind_weight[2]; /* a tile touches as many blocks as it covers, or one more */
} tile_classes;

static bool sort_kinds(tile_classes *c, u64 n_tiles, u64 tile, u64 size, u64 period) {
    u64 touched[2] = {0};
    for (u64 i = 0; i < LB_MIN(period, n_tiles - 1); i++) {
        u32 k = 0;
        u64 n = (i * tile % size + tile - 1) / size;
        while (k < c->n_kinds && touched[k] != n)
            k++;
        if (k == LB_LEN(touched))
            return false;
        if (k == c->n_kinds) {
            touched[k] = n;
            c->kind_tile[k] = i;
            c->n_kinds++;
        }
        c->kind_weight[k] += lb_ceil_div_u64(n_tiles - 1 - i, period);
    }
    c->rest = n_tiles - 1;
    c->n = c->n_kinds + 1;
    return true;
}

static tile_classes classes_of(const lb_pass *p, lb_axis axis, u64 n_tiles, u64 tile) {
    u64 size = axis_period(p, axis), whole = common(size, tile); /* tiles end where blocks do */
    u64 period = whole ? whole / tile : 0;
    tile_classes c = {0};
    if (period && n_tiles > 1 && one_block_size(p, axis, size) &&
        sort_kinds(&c, n_tiles, tile, size, period))
        return c;
    if (period == 0 || n_tiles < 2 * period + 1)
        return (tile_classes){.n = n_tiles};
    u64 rest = n_tiles - period - 1;
    return (tile_classes){.period = period, .rest = rest, .n = period + n_tiles - rest};
}

/* The number of the i-th tile that is looked at, and for how many it stands. */
static u64 class_tile(const tile_classes *c, u64 i, u64 *weight) {
    *weight = 1;
    if (c->n_kinds && i < c->n_kinds) {
        *weight = c->kind_weight[i];
        return c->kind_tile[i];
    }
    if (c->n_kinds || i >= c->period)
        return c->rest + (i - (c->n_kinds ? c->n_kinds : c->period));
    *weight = lb_ceil_div_u64(c->rest - i, c->period);
    return i;
}

/* Bytes to read, and the slab of the largest tile. */
static void measure_tiles(lb_pass *p) {
    u64 n_bands = p->n_tiles / p->tiles_per_row, n_down, n_across;
    tile_classes down = classes_of(p, LB_AXIS_ROWS, n_bands, p->tile_rows);
    tile_classes across = classes_of(p, LB_AXIS_COLS, p->tiles_per_row, p->tile_cols);
    p->read_bytes = 0;
    for (u64 i = 0; i < down.n; i++)
        for (u64 j = 0; j < across.n; j++) {
            u64 band = class_tile(&down, i, &n_down), col = class_tile(&across, j, &n_across);
            lb_rect r = lb_pass_tile(p, band * p->tiles_per_row + col);
            p->read_bytes += n_down * n_across * lb_tile_read_bytes(p, r);
            p->slab_bytes = LB_MAX(p->slab_bytes, lb_tile_layout(p, r, NULL, NULL));
        }
}

/* A piece of a sample may begin where no tile does, and touch a block more. */
static void measure_pieces(lb_pass *p) {
    u64 n = p->select_cap ? lb_select_pieces(p, p->select_cap) : 0;
    for (u64 i = 0; i < n; i++)
        p->slab_bytes =
            LB_MAX(p->slab_bytes, lb_tile_layout(p, lb_select_piece(p, n, i), NULL, NULL));
}

/* Whether the one tile reads all bytes of a transposed encoding. */
static bool is_entire(const lb_pass *p, const lb_leaf *l) {
    if (!p->batch_rows || p->tile_rows < p->n_rows || !l->codec.transposed ||
        l->codec.enc.kind == LB_ENC_VIEW)
        return false; /* a view may show a part of its tensor */
    lb_rect all = {0, p->n_rows, 0, p->n_cols};
    for (u32 k = 0; k < l->codec.n_parts; k++) {
        const lb_codec_part *part = &l->codec.part[k];
        if (part->kind != LB_PART_GRID)
            return false;
        lb_codec_span s = lb_codec_span_of(&l->codec, k, lb_leaf_held(l, leaf_rect(l, all)));
        if (s.n_rows != part->n_stored || s.row_bytes != part->stride)
            return false;
    }
    return true;
}

/* Whether tiles have whole stored rows of what is in blocks of one row, one after the other. */
static bool is_full_rows(const lb_pass *p, const lb_leaf *l) {
    if (!l->whole || l->moves.n || l->codec.transposed || p->tile_cols < p->n_cols ||
        l->codec.enc.kind == LB_ENC_VIEW)
        return false;
    for (u32 k = 0; k < l->codec.n_parts; k++) {
        const lb_codec_part *part = &l->codec.part[k];
        if (!lb_part_in_rows(part))
            continue;
        lb_codec_span s = lb_codec_span_of(&l->codec, k, (lb_rect){0, p->n_rows, 0, p->n_cols});
        if (s.n_rows != part->n_stored || s.n_rows != p->n_rows || s.row_bytes != part->stride)
            return false;
    }
    return true;
}

static lb_status fit_pass(lb_pass *p, u64 target, lb_err *err) {
    u64 elems;
    if (!lb_mul_u64(p->n_rows, p->n_cols, &elems))
        return lb_fail(err, LB_E_LIMIT, "a matrix of %llu x %llu", (unsigned long long)p->n_rows,
                       (unsigned long long)p->n_cols);
    if (elems == 0) {
        p->tile_rows = p->tile_cols = p->tiles_per_row = 1;
        return LB_OK;
    }
    fit_tile(p, target);
    fit_strip(p);
    fit_scratch(p);
    for (u32 i = 0; i < p->n_leaves; i++)
        p->leaves[i].entire = is_entire(p, &p->leaves[i]);
    for (u32 i = 0; i < p->n_leaves; i++)
        p->leaves[i].full_rows = is_full_rows(p, &p->leaves[i]);
    p->tiles_per_row = lb_ceil_div_u64(p->n_cols, p->tile_cols);
    u64 bands = lb_ceil_div_u64(p->n_rows, p->tile_rows);
    p->n_tiles = bands * p->tiles_per_row;
    p->slab_bytes = slab_of(p, p->tile_rows, p->tile_cols);
    /* All tiles but the last of a row or column are congruent, unless a slice starts inside a unit
     * or blocks are cut: then so are those that begin at the same place of a block. */
    bool same = true;
    for (u32 i = 0; i < p->n_leaves; i++)
        same &= p->leaves[i].frame.col_shift % p->leaves[i].codec.unit_elems == 0 &&
                !p->leaves[i].codec.has_grid;
    if (!same) {
        measure_tiles(p);
        measure_pieces(p);
        return LB_OK;
    }
    u64 last_row = p->n_tiles - p->tiles_per_row;
    u64 full = lb_tile_read_bytes(p, lb_pass_tile(p, 0));
    u64 end = lb_tile_read_bytes(p, lb_pass_tile(p, p->tiles_per_row - 1));
    u64 full_last = lb_tile_read_bytes(p, lb_pass_tile(p, last_row));
    u64 end_last = lb_tile_read_bytes(p, lb_pass_tile(p, p->n_tiles - 1));
    p->read_bytes = (bands - 1) * ((p->tiles_per_row - 1) * full + end) +
                    (p->tiles_per_row - 1) * full_last + end_last;
    return LB_OK;
}

lb_status lb_prog_fit(lb_prog *p, u64 target_bytes, lb_err *err) {
    for (u32 i = 0; i < p->n_passes; i++)
        LB_TRY(fit_pass(&p->passes[i], target_bytes, err));
    return LB_OK;
}
