/* SPDX-License-Identifier: Apache-2.0 */
/* select.c: see select.h. */
#include "plan/select.h"
#include <math.h>

/* Least and most elements of a sample, and of a piece of it: 256 f32 are read in one call and rows
 * differ, so that many short pieces tell more than few long ones. */
#define SAMPLE_LEAST 8192
#define SAMPLE_PART 256 /* one element in so many */
#define PIECE_ELEMS 256
/* Smaller matrices are collected whole: that costs less than looking for a bracket. */
#define WHOLE_MOST 65536
/* The bracket reaches so many standard deviations to both sides (as the pieces show them). */
#define BRACKET_SIGMAS 4

#define BITS_MAX INT32_MAX

typedef struct part_head {
    u64 n_above, n_hi, n_in, n_lo, n_zero;
    u64 n_equal, place; /* PLACE: equals in the tile; index of the one that is looked for */
    u64 n_list;
} part_head;

static u64 align64(u64 n) {
    return (n + 63) & ~(u64)63;
}

/* ---- memory ---- */

u64 lb_select_bytes(const lb_node *n, u64 cap) {
    u64 one = align64(cap * sizeof(u32)) + LB_SELECT_BINS * sizeof(u64) +
              LB_SELECT_BUCKETS * 3 * sizeof(u64);
    return align64(sizeof(lb_select)) + n->u.stat.ranks->n * one;
}

lb_select *lb_select_place(const lb_node *n, u64 cap, u8 *more) {
    lb_select *s = (lb_select *)(void *)more;
    *s = (lb_select){.cap = cap};
    more += align64(sizeof *s);
    for (u32 i = 0; i < n->u.stat.ranks->n; i++) {
        lb_sought_rank *r = &s->one[i];
        r->bins = (u64 *)(void *)more;
        more += LB_SELECT_BINS * sizeof(u64);
        r->buckets = (u64(*)[3])(void *)more;
        more += LB_SELECT_BUCKETS * 3 * sizeof(u64);
        r->list = (u32 *)(void *)more;
        more += align64(cap * sizeof(u32));
    }
    return s;
}

static bool is_whole(u64 n_elems, u64 cap) {
    return n_elems <= LB_MIN(cap, WHOLE_MOST);
}

u64 lb_select_room(u64 n_elems, u64 cap, u64 tile_elems) {
    return is_whole(n_elems, cap) ? tile_elems
                                  : LB_MAX(tile_elems / 8, LB_MIN(tile_elems, PIECE_ELEMS));
}

/* Of one rank: its list, or its bins. */
static u64 part_bytes(u64 n_elems, u64 cap, u64 tile_elems) {
    u64 list = lb_select_room(n_elems, cap, tile_elems) * sizeof(u32);
    return align64(sizeof(part_head)) + align64(LB_MAX(list, LB_SELECT_BINS * sizeof(u32)));
}

u64 lb_select_part_bytes(const lb_node *n, u64 n_elems, u64 cap, u64 tile_elems) {
    return n->u.stat.ranks->n * part_bytes(n_elems, cap, tile_elems);
}

static part_head *part_of(const lb_select *s, const lb_select_at *at, u32 i, u32 **list) {
    u8 *p = at->part + i * part_bytes(s->n_elems, s->cap, at->tile_elems);
    *list = (u32 *)(void *)(p + align64(sizeof(part_head)));
    return (part_head *)(void *)p;
}

/* ---- the sample ---- */

static u64 piece_rows(const lb_pass *p, u64 *cols) {
    *cols = p->n_cols;
    if (lb_pass_can_cut_rows(p) && p->n_cols > PIECE_ELEMS) {
        *cols = LB_MIN(lb_ceil_div_u64(PIECE_ELEMS, p->unit_cols) * p->unit_cols, p->tile_cols);
        return 1;
    }
    u64 rows = lb_ceil_div_u64(PIECE_ELEMS, p->n_cols);
    return LB_MIN(lb_ceil_div_u64(rows, p->unit_rows) * p->unit_rows, p->tile_rows);
}

/* None where all can be collected; where rows are columns of a file, and few of them cost as much
 * as all; of masks, which are drawn in order. */
u64 lb_select_pieces(const lb_pass *p, u64 cap) {
    u64 n = p->n_rows * p->n_cols, cols, piece;
    if (is_whole(n, cap) || p->swapped || p->across || p->n_masks)
        return 0;
    piece = piece_rows(p, &cols) * cols;
    u64 want = LB_MIN(LB_MAX(n / SAMPLE_PART, SAMPLE_LEAST), cap);
    return LB_MIN(want / LB_MIN(piece, lb_select_room(n, cap, piece)), n / (4 * piece));
}

/* One somewhere in each of n_pieces stretches: not always at the same place, or all would lie in
 * the same columns. */
lb_rect lb_select_piece(const lb_pass *p, u64 n_pieces, u64 i) {
    u64 cols, rows = piece_rows(p, &cols), n = p->n_rows * p->n_cols, stretch = n / n_pieces;
    u64 shift = ((u32)i * 2654435769u >> 8) * (stretch >> 12) >> 12; /* of 2^24 parts */
    u64 at = i * stretch + LB_MIN(shift, stretch - 1), row = at / p->n_cols, col = at % p->n_cols;
    row = LB_MIN(row, p->n_rows - rows) / p->unit_rows * p->unit_rows;
    col = cols == p->n_cols ? 0 : LB_MIN(col, p->n_cols - cols) / p->unit_cols * p->unit_cols;
    return (lb_rect){row, rows, col, cols};
}

/* The rank-th largest of a list, which stays as it is. */
static u32 largest(const u32 *list, u64 n, u64 rank) {
    static const u32 shift[] = {20, 10, 0};
    u32 prefix = 0;
    for (u32 round = 0; round < LB_LEN(shift); round++) {
        u32 bins[LB_SELECT_BINS] = {0}, bin = LB_SELECT_BINS - 1;
        for (u64 i = 0; i < n; i++)
            if (round == 0)
                bins[list[i] >> 20]++;
            else if (list[i] >> (shift[round] + 10) == prefix)
                bins[list[i] >> shift[round] & 1023]++;
        while (bin > 0 && bins[bin] < rank) {
            rank -= bins[bin];
            bin--;
        }
        prefix = round == 0 ? bin : prefix << 10 | bin;
    }
    return prefix;
}

static u64 count_above(const u32 *list, u64 n, i32 than) {
    u64 k = 0;
    for (u64 i = 0; i < n; i++)
        k += (i32)list[i] > than;
    return k;
}

/* The part of all elements that is sought. A rank that is a part of those that are not 0 is not
 * known before they are counted. */
static double part_of_all(const lb_select *s, const lb_node *n, const lb_sought_rank *r,
                          const u32 *list, u64 n_list) {
    if (n->u.stat.ranks->of_nonzero > 0)
        return n->u.stat.ranks->of_nonzero * (double)count_above(list, n_list, 0) / (double)n_list;
    return ((double)r->rank - 0.5) / (double)s->n_elems;
}

/* Standard deviation of the part of the sample above a value, from piece to piece. */
static double deviation(const lb_select *s, const lb_node *n, i32 than, double part) {
    u64 m = s->one[s->sample].n_list / s->n_pieces;
    double sum = 0, nonzero = n->u.stat.ranks->of_nonzero;
    for (u64 i = 0; i < s->n_pieces; i++) {
        const u32 *piece = s->one[s->sample].list + i * m;
        double d = (double)count_above(piece, m, than) / (double)m;
        if (nonzero > 0)
            d -= nonzero * (double)count_above(piece, m, 0) / (double)m;
        else
            d -= part;
        sum += d * d;
    }
    return sqrt(sum) / (double)s->n_pieces;
}

static void bracket(lb_select *s, const lb_node *n, lb_sought_rank *r) {
    const u32 *list = s->one[s->sample].list;
    u64 n_list = s->one[s->sample].n_list;
    double all = (double)n_list, rank = part_of_all(s, n, r, list, n_list) * all;
    i32 middle = (i32)largest(list, n_list, LB_MIN(LB_MAX((u64)rank, 1), n_list));
    double above = (double)count_above(list, n_list, middle) / all;
    double wide = BRACKET_SIGMAS * deviation(s, n, middle, above) * all + 4;
    r->hi = rank - wide < 1 ? BITS_MAX : (i32)largest(list, n_list, (u64)(rank - wide));
    r->lo = rank + wide > all ? -1 : (i32)largest(list, n_list, (u64)(rank + wide));
    u64 from_hi = count_above(list, n_list, r->hi - 1), above_lo = count_above(list, n_list, r->lo);
    u64 between = above_lo - LB_MIN(from_hi, above_lo);
    bool few = (double)between / all * (double)s->n_elems < 0.75 * (double)s->cap;
    r->state = few ? LB_SOUGHT_COUNTED : LB_SOUGHT_BINNED;
    r->lo = few ? r->lo : LB_MAX(r->lo, 0);
}

/* ---- course ---- */

/* Of one rank nothing belongs to the largest; of two all lies below the first one. */
static void found_none(lb_sought_rank *r, u32 n_ranks) {
    r->state = LB_SOUGHT_FOUND;
    r->bits = BITS_MAX;
    r->end = n_ranks == 1 ? 0 : UINT64_MAX;
}

void lb_select_begin(lb_select *s, const lb_node *n, const lb_pass *p) {
    s->n_tiles = p->n_tiles;
    s->n_elems = p->n_rows * p->n_cols;
    s->n_pieces = lb_select_pieces(p, s->cap);
    s->few = LB_MIN(s->cap / 2, lb_select_room(s->n_elems, s->cap, p->tile_rows * p->tile_cols));
    s->bucket_shift = 0;
    while (p->n_tiles >> s->bucket_shift > LB_SELECT_BUCKETS - 1)
        s->bucket_shift++;
    for (u32 i = 0; i < n->u.stat.ranks->n; i++) {
        lb_sought_rank *r = &s->one[i];
        r->rank = n->u.stat.ranks->rank[i];
        r->lo = is_whole(s->n_elems, s->cap) ? -1 : 0;
        r->hi = BITS_MAX;
        r->state = s->n_pieces                    ? LB_SOUGHT_SAMPLED
                   : is_whole(s->n_elems, s->cap) ? LB_SOUGHT_COUNTED
                                                  : LB_SOUGHT_BINNED;
        if (r->rank == 0 && n->u.stat.ranks->of_nonzero == 0)
            found_none(r, n->u.stat.ranks->n);
        else
            s->sample = i;
    }
}

void lb_select_begin_round(lb_select *s, const lb_node *n) {
    for (u32 i = 0; i < n->u.stat.ranks->n; i++) {
        lb_sought_rank *r = &s->one[i];
        if (r->state >= LB_SOUGHT_KNOWN)
            continue;
        r->n_above = r->n_hi = r->n_in = r->n_lo = r->n_zero = r->n_list = 0;
        r->lost = false;
        memset(r->bins, 0, LB_SELECT_BINS * sizeof *r->bins);
        memset(r->buckets, 0, LB_SELECT_BUCKETS * sizeof *r->buckets);
    }
}

/* The ranks that a round is about. */
static bool takes_part(const lb_sought_rank *r, lb_visit visit) {
    switch (visit) {
    case LB_VISIT_SAMPLE:
        return r->state == LB_SOUGHT_SAMPLED;
    case LB_VISIT_ALL:
        return r->state == LB_SOUGHT_COUNTED || r->state == LB_SOUGHT_BINNED;
    case LB_VISIT_PLACE:
        return r->state == LB_SOUGHT_PLACED;
    }
    return false;
}

bool lb_select_wants(const lb_select *s, const lb_node *n, lb_visit visit) {
    for (u32 i = 0; i < n->u.stat.ranks->n; i++)
        if (takes_part(&s->one[i], visit))
            return true;
    return false;
}

void lb_select_clear(const lb_select *s, const lb_node *n, const lb_select_at *at) {
    u32 *list;
    for (u32 i = 0; i < n->u.stat.ranks->n; i++) {
        *part_of(s, at, i, &list) = (part_head){0};
        if (at->visit == LB_VISIT_ALL && s->one[i].state == LB_SOUGHT_BINNED)
            memset(list, 0, LB_SELECT_BINS * sizeof *list);
    }
}

/* Bits that a bin of lo..hi is shifted by. */
static u32 bin_shift(const lb_sought_rank *r) {
    u32 shift = 0;
    while ((u32)(r->hi - r->lo) >> shift >= LB_SELECT_BINS)
        shift++;
    return shift;
}

static void strip_bins(const lb_sought_rank *r, part_head *h, u32 *bins, u64 n, const float *x) {
    u32 shift = bin_shift(r);
    for (u64 i = 0; i < n; i++) {
        i32 bits = (i32)(lb_f32_bits(x[i]) & 0x7fffffffu);
        h->n_above += bits > r->hi;
        if (bits >= r->lo && bits <= r->hi)
            bins[(u32)(bits - r->lo) >> shift]++;
    }
}

static void strip_place(const lb_sought_rank *r, part_head *h, const lb_kernels *k,
                        lb_select_run run) {
    u64 count[3] = {0};
    (void)k->select_f32(run.n, run.x, r->bits, r->bits, NULL, 0, count);
    u64 before = h->n_equal;
    h->n_equal += count[1];
    if (before >= r->left || h->n_equal < r->left)
        return;
    for (u64 i = 0; i < run.n; i++)
        if ((i32)(lb_f32_bits(run.x[i]) & 0x7fffffffu) == r->bits && ++before == r->left) {
            h->place = run.index + i;
            return;
        }
}

static void strip_count(const lb_sought_rank *r, part_head *h, u32 *list, u64 room,
                        const lb_kernels *k, lb_select_run run) {
    u64 full = LB_MIN(h->n_in, room), count[3] = {0};
    h->n_in += k->select_f32(run.n, run.x, r->lo, r->hi, list + full, room - full, count);
    h->n_above += count[0];
    h->n_hi += count[1];
    h->n_lo += r->lo < r->hi ? count[2] : 0;
}

static void strip_sample(part_head *h, u32 *list, u64 room, lb_select_run run) {
    for (u64 j = 0; j < run.n && h->n_list < room; j++)
        list[h->n_list++] = lb_f32_bits(run.x[j]) & 0x7fffffffu;
}

void lb_select_strip(const lb_select *s, const lb_node *n, const lb_kernels *k,
                     const lb_select_at *at, lb_select_run run) {
    u64 room = lb_select_room(s->n_elems, s->cap, at->tile_elems);
    for (u32 i = 0; i < n->u.stat.ranks->n; i++) {
        const lb_sought_rank *r = &s->one[i];
        u32 *list;
        part_head *h = part_of(s, at, i, &list);
        if (!takes_part(r, at->visit))
            continue;
        if (at->visit == LB_VISIT_SAMPLE) {
            if (i == s->sample)
                strip_sample(h, list, room, run);
            continue;
        }
        if (at->visit == LB_VISIT_PLACE) {
            if (at->tile >= r->first_tile && at->tile < r->end_tile)
                strip_place(r, h, k, run);
            continue;
        }
        if (n->u.stat.ranks->of_nonzero > 0) {
            u64 count[3] = {0};
            (void)k->select_f32(run.n, run.x, 0, 0, NULL, 0, count);
            h->n_zero += count[1];
        }
        if (r->state == LB_SOUGHT_BINNED)
            strip_bins(r, h, list, run.n, run.x);
        else
            strip_count(r, h, list, room, k, run);
    }
}

static void commit_sample(lb_select *s, const part_head *h, const u32 *list) {
    lb_sought_rank *r = &s->one[s->sample];
    u64 n = LB_MIN(h->n_list, s->cap - r->n_list);
    memcpy(r->list + r->n_list, list, n * sizeof *list);
    r->n_list += n;
}

static void commit_count(const lb_select *s, lb_sought_rank *r, const part_head *h, const u32 *list,
                         const lb_select_at *at) {
    u64 *b = r->buckets[at->tile >> s->bucket_shift];
    b[0] += h->n_hi;
    b[1] += h->n_in;
    b[2] += h->n_lo;
    r->n_hi += h->n_hi;
    r->n_in += h->n_in;
    r->n_lo += h->n_lo;
    if (r->lost || h->n_in > lb_select_room(s->n_elems, s->cap, at->tile_elems) ||
        h->n_in > s->cap - r->n_list) {
        r->lost = true;
        return;
    }
    if (h->n_in)
        memcpy(r->list + r->n_list, list, h->n_in * sizeof *list);
    r->n_list += h->n_in;
}

static void commit_place(lb_sought_rank *r, const part_head *h, u64 tile) {
    if (tile < r->first_tile || tile >= r->end_tile || r->hit_tile != UINT64_MAX)
        return;
    if (r->left - r->passed > h->n_equal) {
        r->passed += h->n_equal;
        return;
    }
    r->hit_tile = tile;
    r->hit_end = h->place + 1;
}

void lb_select_commit(lb_select *s, const lb_node *n, const lb_select_at *at) {
    for (u32 i = 0; i < n->u.stat.ranks->n; i++) {
        lb_sought_rank *r = &s->one[i];
        u32 *list;
        const part_head *h = part_of(s, at, i, &list);
        if (!takes_part(r, at->visit))
            continue;
        if (at->visit == LB_VISIT_SAMPLE) {
            if (i == s->sample)
                commit_sample(s, h, list);
            continue;
        }
        if (at->visit == LB_VISIT_PLACE) {
            commit_place(r, h, at->tile);
            continue;
        }
        r->n_above += h->n_above;
        r->n_zero += h->n_zero;
        for (u32 j = 0; j < LB_SELECT_BINS && r->state == LB_SOUGHT_BINNED; j++)
            r->bins[j] += list[j];
        if (r->state == LB_SOUGHT_COUNTED)
            commit_count(s, r, h, list, at);
    }
}

/* ---- what a round has shown ---- */

/* lo..hi is divided next, or if few enough lie in it, collected. */
static void narrow(const lb_select *s, lb_sought_rank *r, i32 lo, i32 hi, u64 n_in) {
    r->lo = lo;
    r->hi = hi;
    r->state = lo == hi || n_in <= s->few ? LB_SOUGHT_COUNTED : LB_SOUGHT_BINNED;
}

static void finish_bins(const lb_select *s, lb_sought_rank *r) {
    u32 shift = bin_shift(r), bin = LB_SELECT_BINS - 1;
    u64 above = r->n_above, all = above;
    for (u32 j = 0; j < LB_SELECT_BINS; j++)
        all += r->bins[j];
    if (r->rank <= above) {
        narrow(s, r, r->hi + 1, BITS_MAX, above);
        return;
    }
    if (r->rank > all) {
        narrow(s, r, 0, r->lo - 1, s->n_elems - all);
        return;
    }
    while (r->rank > above + r->bins[bin])
        above += r->bins[bin--];
    i64 lo = r->lo + ((i64)bin << shift), hi = LB_MIN(lo + ((i64)1 << shift) - 1, (i64)r->hi);
    narrow(s, r, (i32)lo, (i32)hi, r->bins[bin]);
}

/* equals: which counts of the buckets are theirs. */
static void known(lb_sought_rank *r, i32 bits, u64 above, u64 equal, u32 equals) {
    r->bits = bits;
    r->above = above;
    r->equal = equal;
    r->equals = equals;
    r->taken = r->rank - above;
    r->state = LB_SOUGHT_KNOWN;
}

static void finish_count(const lb_select *s, lb_sought_rank *r) {
    u64 in = r->n_above + r->n_hi, lo = in + r->n_in, below = lo + r->n_lo;
    if (r->rank <= r->n_above) {
        narrow(s, r, r->hi + 1, BITS_MAX, r->n_above);
    } else if (r->rank <= in) {
        known(r, r->hi, r->n_above, r->n_hi, 0);
    } else if (r->rank <= lo && r->lost) {
        r->lo++;
        r->hi--;
        r->state = LB_SOUGHT_BINNED;
    } else if (r->rank <= lo) {
        i32 bits = (i32)largest(r->list, r->n_list, r->rank - in);
        u64 more = count_above(r->list, r->n_list, bits);
        u64 equal = count_above(r->list, r->n_list, bits - 1) - more;
        known(r, bits, in + more, equal, 1);
    } else if (r->rank <= below) {
        known(r, r->lo, lo, r->n_lo, 2);
    } else {
        narrow(s, r, 0, r->lo - 1, s->n_elems - below);
    }
}

/* Equals of a bucket; at: where its part of the list begins, moved on. */
static u64 equals_of(const lb_sought_rank *r, u64 bucket, u64 *at) {
    u64 n = 0, end = *at + r->buckets[bucket][1];
    if (r->equals != 1)
        return r->buckets[bucket][r->equals];
    for (; *at < end; ++*at)
        n += r->list[*at] == (u32)r->bits;
    return n;
}

static void look_in(lb_sought_rank *r, u64 first_tile, u64 end_tile, u64 left) {
    r->first_tile = first_tile;
    r->end_tile = end_tile;
    r->left = left;
    r->passed = 0;
    r->hit_tile = UINT64_MAX;
    r->state = LB_SOUGHT_PLACED;
}

/* The last of the equals that are taken lies in a bucket of tiles: which one, and how many equals
 * of it are taken. */
static void place(const lb_select *s, lb_sought_rank *r) {
    u64 left = r->taken, bucket = 0, at = 0, n;
    r->end = r->taken ? UINT64_MAX : 0;
    r->state = LB_SOUGHT_FOUND;
    if (r->taken == 0 || r->taken == r->equal)
        return;
    for (; (n = equals_of(r, bucket, &at)) < left; bucket++)
        left -= n;
    look_in(r, bucket << s->bucket_shift, LB_MIN((bucket + 1) << s->bucket_shift, s->n_tiles),
            left);
}

/* Where several tiles were looked through, the one is next. */
static void finish_place(lb_sought_rank *r) {
    if (r->end_tile - r->first_tile > 1) {
        look_in(r, r->hit_tile, r->hit_tile + 1, r->left - r->passed);
        return;
    }
    r->end = r->hit_end;
    r->state = LB_SOUGHT_FOUND;
}

/* Of equals those with the lowest indices are kept, so above the first of two ranks those with the
 * highest are dropped. */
static void place_all(lb_select *s, const lb_node *n) {
    lb_sought_rank *top = &s->one[0], *last = &s->one[1];
    for (u32 i = 0; i < n->u.stat.ranks->n; i++)
        if (s->one[i].state != LB_SOUGHT_KNOWN && s->one[i].state != LB_SOUGHT_FOUND)
            return;
    if (n->u.stat.ranks->n == 2 && top->state == LB_SOUGHT_KNOWN) {
        bool same = top->bits == last->bits;
        top->taken = same ? top->equal : top->equal - top->taken;
        last->taken = same ? last->rank - top->rank : last->taken;
    }
    for (u32 i = 0; i < n->u.stat.ranks->n; i++)
        if (s->one[i].state == LB_SOUGHT_KNOWN)
            place(s, &s->one[i]);
}

/* mergekit's product of a count and a part is one of floats. */
static bool rank_of_nonzero(const lb_select *s, const lb_node *n, lb_sought_rank *r) {
    if (n->u.stat.ranks->of_nonzero > 0)
        r->rank = (u64)((float)(s->n_elems - r->n_zero) * (float)n->u.stat.ranks->of_nonzero);
    if (r->rank == 0)
        found_none(r, 1);
    return r->rank > 0;
}

const char *lb_select_finish(lb_select *s, const lb_node *n, lb_visit visit, double *results) {
    const lb_formula *f = n->u.stat.formula;
    double value[LB_SELECT_RANKS] = {0};
    bool first = visit != LB_VISIT_PLACE;
    for (u32 i = 0; i < n->u.stat.ranks->n; i++) {
        lb_sought_rank *r = &s->one[i];
        if (takes_part(r, visit)) {
            if (visit == LB_VISIT_SAMPLE)
                bracket(s, n, r);
            else if (visit == LB_VISIT_PLACE)
                finish_place(r);
            else if (visit == LB_VISIT_ALL && rank_of_nonzero(s, n, r)) {
                if (r->state == LB_SOUGHT_BINNED)
                    finish_bins(s, r);
                else
                    finish_count(s, r);
            }
        }
        value[i] = lb_f32_from_bits((u32)r->bits);
    }
    if (first)
        place_all(s, n);
    if (lb_select_wants(s, n, LB_VISIT_ALL) || lb_select_wants(s, n, LB_VISIT_PLACE))
        return NULL;
    if (f)
        return f->run(f, value, n->u.stat.ranks->n, results);
    for (u32 i = 0; i < n->u.stat.ranks->n; i++)
        results[i] = value[i];
    if (n->u.stat.ranks->n == 1)
        results[1] = (double)s->one[0].above;
    return NULL;
}

/* ---- what it is for ---- */

void lb_select_keep(const lb_select *s, u32 n_ranks, const lb_kernels *k, lb_select_run run,
                    float *out) {
    const lb_sought_rank *last = &s->one[n_ranks - 1], *top = n_ranks == 2 ? &s->one[0] : NULL;
    while (run.n) { /* a stretch that is before or behind the end of each rank */
        u64 m = run.n;
        for (u32 i = 0; i < n_ranks; i++)
            if (s->one[i].end > run.index)
                m = LB_MIN(m, s->one[i].end - run.index);
        k->map_keep_f32(m, out, run.x, last->bits - (run.index < last->end),
                        top ? top->bits - (run.index >= top->end) : BITS_MAX);
        out += m;
        run = (lb_select_run){run.index + m, run.n - m, run.x + m};
    }
}
