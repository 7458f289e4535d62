/* SPDX-License-Identifier: Apache-2.0 */
/* kernels_state.c: families of heads.k, mixer.k and state.k: parts of rows, gates, layers that keep
 * a state of each sequence. Numbers of threads are those of the texts. */
#include "device/kernels_family.h"

enum { ROW_SIMDGROUPS = 8, COLS = 32 /* of a state, that a threadgroup has */ };

static u32 ceil_div(u64 n, u32 per) {
    return (u32)lb_ceil_div_u64(n, per);
}

const char *lb_dev_shape_route_two(u32 type, const void *val, lb_dev_shape *s) {
    const lb_route_args *a = val;
    (void)type;
    if (a->how != LB_DEV_ROUTE_MIXER || a->n_used != 2 || a->n_experts < 2)
        return "two experts of two or more are chosen";
    if (a->n_experts > LB_DEV_EXPERTS_MAX)
        return "more than 1024 experts";
    s->need_bytes[0] = (u64)a->n_tokens * a->n_experts * 4;
    s->need_bytes[1] = (u64)a->n_tokens * 16;
    s->groups[0] = a->n_tokens;
    s->n_threads = LB_DEV_ROW_THREADS;
    return NULL;
}

/* Heads of a row, `head` values apart: where the last one ends. */
static u64 heads_end(u32 n_heads, u32 head, u32 n_cols) {
    return n_heads ? (u64)(n_heads - 1) * head + n_cols : 0;
}

const char *lb_dev_shape_move(u32 type, const void *val, lb_dev_shape *s) {
    const lb_move_args *a = val;
    const u64 n = (u64)a->n_heads * a->n_cols;
    (void)type;
    if (a->o_head < a->n_cols && a->n_heads > 1)
        return "heads of the result overlap";
    const char *bad =
        lb_dev_strided(a->n_tokens, a->first, heads_end(a->n_heads, a->head, a->n_cols), a->stride,
                       &s->need_bytes[0]);
    if (!bad)
        bad = lb_dev_strided(a->n_tokens, a->o_first, heads_end(a->n_heads, a->o_head, a->n_cols),
                             a->o_stride, &s->need_bytes[1]);
    return bad ? bad : lb_dev_map_grid(n, a->n_tokens, s);
}

const char *lb_dev_shape_times(u32 type, const void *val, lb_dev_shape *s) {
    const lb_times_args *a = val;
    (void)type;
    const char *bad =
        lb_dev_strided(a->n_rows, a->y_first, a->n_cols, a->y_stride, &s->need_bytes[0]);
    if (!bad)
        bad = lb_dev_strided(a->n_rows, a->first, a->n_cols, a->stride, &s->need_bytes[1]);
    return bad ? bad : lb_dev_map_grid(a->n_cols, a->n_rows, s);
}

const char *lb_dev_shape_l2(u32 type, const void *val, lb_dev_shape *s) {
    const lb_l2_args *a = val;
    const u64 n = (u64)a->n_heads * a->n_cols;
    (void)type;
    s->groups[0] = a->n_cols ? ceil_div(a->n_heads, ROW_SIMDGROUPS) : 0;
    s->groups[1] = a->n_tokens;
    s->n_threads = LB_DEV_ROW_THREADS;
    if (n > UINT32_MAX || a->n_tokens > LB_DEV_GRID_Y_MAX)
        return LB_DEV_TOO_LARGE;
    return lb_dev_strided(a->n_tokens, a->first, n, a->stride, &s->need_bytes[0]);
}

/* ---- states ---- */

/* Bytes of all sequences' states, of which this one takes n values. */
static const char *state_bytes(u32 n_seqs, u64 first, u64 n, u32 stride, u64 *out) {
    const char *bad = lb_dev_strided(n_seqs, first, n, stride, out);
    return bad || !n_seqs ? "a state does not fit its place in a sequence's" : NULL;
}

static const char *conv_fits(const lb_conv_args *a, u64 *x_bytes) {
    const u32 last = LB_MAX(a->first, a->gated ? LB_MAX(a->gate_in, a->gate_out) : 0);
    if (a->width < 2 || a->width > UINT32_MAX / 2)
        return "a convolution of less than two tokens";
    return lb_dev_strided(a->n_tokens, last, a->n_channels, a->stride, x_bytes);
}

const char *lb_dev_shape_conv(u32 type, const void *val, lb_dev_shape *s) {
    const lb_conv_args *a = val;
    const u64 n = (u64)(a->width - 1) * a->n_channels;
    (void)type;
    const char *bad = conv_fits(a, &s->need_bytes[0]);
    if (!bad)
        bad = state_bytes(a->n_seqs, a->state_first, n, a->state_stride, &s->need_bytes[3]);
    if (bad)
        return bad;
    if (!lb_dev_float_bytes(a->n_channels, a->width, &s->need_bytes[1]) ||
        !lb_dev_float_bytes(a->n_tokens, a->n_channels, &s->need_bytes[6]))
        return LB_DEV_TOO_LARGE;
    s->need_bytes[2] = (u64)a->n_channels * 4;
    s->need_bytes[4] = (u64)a->n_tokens * 4;
    s->need_bytes[5] = (u64)a->n_runs * 16;
    return lb_dev_map_grid(a->n_channels, a->n_tokens, s);
}

const char *lb_dev_shape_conv_keep(u32 type, const void *val, lb_dev_shape *s) {
    const lb_conv_args *a = val;
    const u64 n = (u64)(a->width - 1) * a->n_channels;
    (void)type;
    const char *bad = conv_fits(a, &s->need_bytes[0]);
    if (!bad)
        bad = state_bytes(a->n_seqs, a->state_first, n, a->state_stride, &s->need_bytes[2]);
    s->need_bytes[1] = (u64)a->n_runs * 16;
    return bad ? bad : lb_dev_map_grid(a->n_channels, a->n_runs, s);
}

const char *lb_dev_shape_gates(u32 type, const void *val, lb_dev_shape *s) {
    const lb_gates_args *a = val;
    (void)type;
    if (!a->group || a->n_heads % a->group)
        return "heads are no whole groups";
    const u64 last = a->n_heads ? (u64)(a->n_heads / a->group - 1) * a->step + a->group : 0;
    const char *bad =
        lb_dev_strided(a->n_tokens, LB_MAX(a->beta, a->alpha), last, a->stride, &s->need_bytes[0]);
    s->need_bytes[1] = s->need_bytes[2] = (u64)a->n_heads * 4;
    if (!bad && !lb_dev_float_bytes((u64)a->n_tokens * a->n_heads, 2, &s->need_bytes[3]))
        bad = LB_DEV_TOO_LARGE;
    return bad ? bad : lb_dev_map_grid(a->n_heads, a->n_tokens, s);
}

const char *lb_dev_shape_delta(u32 type, const void *val, lb_dev_shape *s) {
    const lb_delta_args *a = val;
    const u64 keys = 2ull * a->n_k * a->k_dim, values = (u64)a->n_v * a->v_dim;
    u64 state;
    (void)type;
    if (!a->n_k || a->n_v % a->n_k || !a->k_dim)
        return "heads of values are not shared out among those of keys";
    if (a->k_dim > LB_DEV_STATE_KEYS_MAX)
        return "keys of more than 256 elements";
    if (a->stride > UINT32_MAX / LB_DEV_DELTA_CHUNK) /* places in a chunk have 32 bits */
        return LB_DEV_TOO_LARGE;
    if (!lb_mul_u64(values, a->k_dim, &state) || values > UINT32_MAX || a->v_dim > UINT32_MAX - 32)
        return LB_DEV_TOO_LARGE;
    const char *bad = lb_dev_strided(a->n_tokens, 0, keys + values, a->stride, &s->need_bytes[0]);
    if (!bad)
        bad = state_bytes(a->n_seqs, a->state_first, state, a->state_stride, &s->need_bytes[3]);
    if (!bad && (!lb_dev_float_bytes((u64)a->n_tokens * a->n_v, 2, &s->need_bytes[1]) ||
                 !lb_dev_float_bytes(a->n_tokens, values, &s->need_bytes[4])))
        bad = LB_DEV_TOO_LARGE;
    s->need_bytes[2] = (u64)a->n_runs * 16;
    s->groups[0] = a->n_v * ceil_div(a->v_dim, COLS); /* at most values: each has a column */
    s->groups[1] = a->n_runs;
    s->n_threads = LB_DEV_ROW_THREADS;
    return bad ? bad : a->n_runs > LB_DEV_GRID_Y_MAX ? LB_DEV_TOO_LARGE : NULL;
}
