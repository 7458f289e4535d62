/* SPDX-License-Identifier: Apache-2.0 */
/* broken.c: kernels with one fault each, as one makes them; checkkern must catch every one. */
#include "checkkern.h"
#include "kernel/fold.h"
#include "kernel/half.h"
#include <math.h>

/* ---- tails, bounds ---- */

static void f16_tail_short(size_t n, float *out, const void *in) {
    const size_t done = n % 8 == 7 ? n - 1 : n; /* the last element of a full tail is forgotten */
    lb_k_decode_f32_f16_ref(done, out, in);
}

static void bf16_writes_past(size_t n, float *out, const void *in) {
    lb_k_decode_f32_bf16_ref(n, out, in);
    if (n % 8 == 5)
        out[n] = 0;
}

static void q8_0_writes_before(size_t n, float *out, const void *in) {
    lb_k_decode_f32_q8_0_ref(n, out, in);
    if (n)
        out[-1] = out[0];
}

static void f16_reads_past(size_t n, float *out, const void *in) {
    volatile const u8 *p = in;
    (void)p[2 * n];
    lb_k_decode_f32_f16_ref(n, out, in);
}

static double sum_reads_before(size_t n, const float *a) {
    volatile const float *p = a;
    if (n)
        (void)p[-1];
    return lb_k_fold_sum_f32_ref(n, a);
}

static void mulc_writes_input(size_t n, float *out, const float *a, float c) {
    lb_k_map_mulc_f32_ref(n, out, a, c);
    float *evil;
    memcpy(&evil, &a, sizeof evil);
    if (n && evil != out)
        evil[n - 1] = 0;
}

/* ---- arithmetic ---- */

static void q4_0_nibbles_swapped(size_t n, float *out, const void *in) {
    lb_k_decode_f32_q4_0_ref(n, out, in);
    for (size_t i = 0; i < n; i++) {
        const size_t j = i ^ 16;
        if (j > i) {
            const float t = out[i];
            out[i] = out[j];
            out[j] = t;
        }
    }
}

static void mlx_fused(size_t n_groups, size_t group_elems, float *out, const void *codes,
                      const float *scale, const float *bias, u32 round) {
    lb_k_decode_f32_mlx_q8_ref(n_groups, group_elems, out, codes, scale, bias, round);
    const u8 *p = codes;
    for (size_t i = 0; round == 0 && i < n_groups * group_elems; i++) {
        const size_t g = i / group_elems;
        out[i] = lb_canon_f32((float)((double)p[i] * (double)scale[g] + (double)bias[g]));
    }
}

static void f16_no_clamp(size_t n, void *out, const float *in, u64 counts[2]) {
    lb_k_encode_f16_f32_ref(n, out, in, counts);
    for (size_t i = 0; i < n; i++) /* the exponent of a large value runs into the sign */
        if (in[i] > 65536.0f)
            lb_store_u16((u8 *)out + 2 * i,
                         (u16)((lb_f32_bits(in[i]) - (112u << 23) + 0x1000u) >> 13));
}

static void bf16_truncates(size_t n, void *out, const float *in, u64 counts[2]) {
    lb_k_encode_bf16_f32_ref(n, out, in, counts);
    for (size_t i = 0; i < n; i++)
        lb_store_u16((u8 *)out + 2 * i, (u16)(lb_f32_bits(in[i]) >> 16));
}

static void bf16_ties_away(size_t n, void *out, const float *in, u64 counts[2]) {
    lb_k_encode_bf16_f32_ref(n, out, in, counts);
    for (size_t i = 0; i < n; i++)
        if (in[i] == in[i])
            lb_store_u16((u8 *)out + 2 * i, (u16)((lb_f32_bits(in[i]) + 0x8000u) >> 16));
}

static void f16_counts_set(size_t n, void *out, const float *in, u64 counts[2]) {
    counts[0] = counts[1] = 0;
    lb_k_encode_f16_f32_ref(n, out, in, counts);
}

static void mlx_one_rounding(size_t n_groups, size_t group_elems, float *out, const void *codes,
                             const float *scale, const float *bias, u32 round) {
    lb_k_decode_f32_mlx_q4_ref(n_groups, group_elems, out, codes, scale, bias,
                               LB_MLX_ROUND(LB_ROUND_NONE, round >> 4));
}

static void add_keeps_nan(size_t n, float *out, const float *a, const float *b) {
    for (size_t i = 0; i < n; i++)
        out[i] = a[i] + b[i];
}

static void sub_not_in_place(size_t n, float *out, const float *a, const float *b) {
    for (size_t i = 0; i < n; i++) {
        out[i] = 0; /* b may stand here */
        out[i] = lb_canon_f32(a[i] - b[i]);
    }
}

static void fmac_unfused(size_t n, float *out, const float *a, float c, const float *b) {
    for (size_t i = 0; i < n; i++)
        out[i] = lb_canon_f32(a[i] * c + b[i]);
}

static double sum_in_8_lanes(size_t n, const float *a) {
    double lane[LB_FOLD_LANES] = {0};
    for (size_t i = 0; i < n; i++)
        lane[i % 8] += (double)a[i];
    return lb_fold_lanes(lane);
}

static double dot_in_float(size_t n, const float *a, const float *b) {
    double lane[LB_FOLD_LANES] = {0};
    for (size_t i = 0; i < n; i++)
        lane[i % LB_FOLD_LANES] += (double)(a[i] * b[i]);
    return lb_fold_lanes(lane);
}

static u64 range_takes_zeros_alike(size_t n, const float *a, float minmax[2]) {
    const u64 odd = lb_k_fold_range_f32_ref(n, a, minmax);
    if (n && minmax[0] == 0)
        minmax[0] = 0;
    return odd;
}

static void transpose_fills_gaps(size_t n_rows, size_t n_cols, size_t elem_bytes, void *out,
                                 size_t out_stride, const void *in, size_t in_stride) {
    lb_k_transpose_ref(n_rows, n_cols, elem_bytes, out, out_stride, in, in_stride);
    for (size_t c = 0; c + 1 < n_cols; c++)
        memset((u8 *)out + (c * out_stride + n_rows) * elem_bytes, 0,
               (out_stride - n_rows) * elem_bytes);
}

static void gemm_unfused(size_t n_rows, size_t n_cols, size_t n_inner, float *c, const float *a,
                         size_t a_stride, const float *b) {
    for (size_t i = 0; i < n_rows; i++)
        for (size_t j = 0; j < n_cols; j++) {
            float s = 0;
            for (size_t k = 0; k < n_inner; k++)
                s += a[i * a_stride + k] * b[k * n_cols + j];
            c[i * n_cols + j] = lb_canon_f32(c[i * n_cols + j] + s);
        }
}

static void gram_from_zero(size_t n_rows, size_t n_cols, double *g, const double *x) {
    for (size_t i = 0; i < n_cols; i++)
        for (size_t j = 0; j <= i; j++) {
            double s = 0;
            for (size_t k = 0; k < n_rows; k++)
                s = fma(x[k * n_cols + i], x[k * n_cols + j], s);
            g[i * (i + 1) / 2 + j] = lb_canon_f64(g[i * (i + 1) / 2 + j] + s);
        }
}

static void lut4_swaps_halves(size_t n, size_t first, bool upper, float *out, const void *in,
                              const float value[16], float scale) {
    lb_k_decode_f32_lut4_ref(n, first, first % 2 == 1 ? !upper : upper, out, in, value, scale);
}

static void words_reads_next(size_t n, size_t n_cols, u32 shift_bits, float *out, const void *in,
                             size_t stride_bytes, const float *zero, const float *scale) {
    const size_t end = (shift_bits & 255) + n_cols * (shift_bits >> 8);
    volatile const u8 *p = in;
    if (n && n_cols) /* the next row of words, though no code crosses into it */
        (void)p[((end - 1) / 32 + 1) * stride_bytes + 4 * n - 1];
    lb_k_decode_f32_words_ref(n, n_cols, shift_bits, out, in, stride_bytes, zero, scale);
}

static void words_drops_crossing(size_t n, size_t n_cols, u32 shift_bits, float *out,
                                 const void *in, size_t stride_bytes, const float *zero,
                                 const float *scale) {
    const u32 bits = shift_bits >> 8;
    for (size_t c = 0; c < n_cols; c++) {
        const size_t at = (shift_bits & 255) + c * bits;
        lb_k_decode_f32_words_ref(n, 1, LB_WORD_BITS((u32)at % 32, bits), out + c * n,
                                  (const u8 *)in + at / 32 * stride_bytes, 0, zero, scale);
    }
}

static void awq_in_order(size_t n, size_t n_cols, float *out, const void *in, size_t stride_bytes,
                         const float *zero, const float *scale) {
    for (size_t c = 0; c < n_cols; c++)
        for (size_t i = 0; i < n; i++) {
            const u8 *p = (const u8 *)in + c * stride_bytes + i / 8 * 4;
            out[c * n + i] =
                lb_canon_f32(((float)(lb_load_u32(p) >> (4 * (i % 8)) & 15) - zero[i]) * scale[i]);
        }
}

/* ---- quantizers ---- */

static u64 q4_ties_even(size_t n_groups, size_t group_elems, void *codes, void *scale, void *bias,
                        const void *in, u32 how) {
    return lb_k_quant_mlx_q4_ref(n_groups, group_elems, codes, scale, bias, in, how | LB_QUANT_CPU);
}

static u64 q3_scale_first(size_t n_groups, size_t group_elems, void *codes, void *scale, void *bias,
                          const void *in, u32 how) {
    const u64 n = lb_k_quant_mlx_q3_ref(n_groups, group_elems, codes, scale, bias, in, how);
    if (n_groups && (how >> 4 & 15) == LB_ROUND_BF16) /* truncated instead of rounded */
        *(u8 *)scale = (u8)(*(u8 *)scale & 0xfe);
    return n;
}

static u64 q8_keeps_silent(size_t n_groups, size_t group_elems, void *codes, void *scale,
                           void *bias, const void *in, u32 how) {
    lb_k_quant_mlx_q8_ref(n_groups, group_elems, codes, scale, bias, in, how);
    return 0;
}

static u64 q6_as_before(size_t n_groups, size_t group_elems, void *codes, void *scale, void *bias,
                        const void *in, u32 how) {
    return lb_k_quant_mlx_q6_ref(n_groups, group_elems, codes, scale, bias, in,
                                 how & ~LB_QUANT_STORED);
}

static u64 mxfp4_drops_zero_signs(size_t n_groups, void *codes, void *scale, const void *in,
                                  float global_scale, u32 how) {
    const u64 n = lb_k_quant_mlx_mxfp4_ref(n_groups, codes, scale, in, global_scale, how);
    u8 *p = codes;
    for (size_t i = 0; i < 16 * n_groups; i++) {
        p[i] = (u8)((p[i] & 15) == 8 ? p[i] & 0xf0 : p[i]);
        p[i] = (u8)(p[i] >> 4 == 8 ? p[i] & 0x0f : p[i]);
    }
    return n;
}

static u64 groups_unpacked_tail(size_t n_groups, size_t group_elems, void *codes, void *scale,
                                void *zero, const void *in, u32 how) {
    const u64 n = lb_k_quant_groups_ref(n_groups, group_elems, codes, scale, zero, in, how);
    const size_t bits = n_groups * group_elems * (how >> 8 & 15);
    if (bits % 32) /* the last word is not filled up */
        ((u8 *)codes)[(bits + 31) / 32 * 4 - 1] = 0xc3;
    return n;
}

static void f8_past_448(size_t n, void *out, const void *in, float scale, u32 how) {
    lb_k_quant_f8_e4m3_ref(n, out, in, scale, how);
    u8 *p = out;
    for (size_t i = 0; i < n; i++)
        p[i] = (u8)((p[i] & 0x7f) == 0x7e ? p[i] | 1 : p[i]);
}

static void i8_wraps(size_t n, void *out, const void *in, float scale, float zero, u32 how) {
    lb_k_quant_i8_ref(n, out, in, scale, zero, how);
    i8 *p = out;
    for (size_t i = 0; i < n; i++)
        p[i] = (i8)(p[i] == 127 ? -128 : p[i]);
}

static u64 range_bf16_takes_nan(size_t n, const void *a, float minmax[2]) {
    const u64 odd = lb_k_fold_range_bf16_ref(n, a, minmax);
    if (odd)
        minmax[1] = lb_f32_from_bits(LB_NAN_BITS);
    return odd;
}

static void mt_old_first_word(size_t n_blocks, u32 *out, const u32 *in) {
    lb_k_mt_blocks_ref(n_blocks, out, in);
    for (size_t b = 0; b < n_blocks; b++, in = out, out += 624)
        out[623] = out[396] ^ ((in[623] & 0x80000000u) | (in[0] & 0x7fffffffu)) >> 1 ^
                   (-(in[0] & 1) & 0x9908b0dfu);
}

static void mt_keeps_equal(size_t n, void *out, const u32 *in, u32 below) {
    lb_k_mt_mask_ref(n, out, in, below + 1);
}

static void mt_leaves_tail(size_t n, void *out, const u32 *in, u32 below) {
    lb_k_mt_mask_ref(n, out, in, below);
    if (n % 8)
        ((u8 *)out)[n / 8] |= 0x80;
}

static void keep_below(size_t n, float *out, const float *a, i32 above, i32 up_to) {
    lb_k_map_keep_f32_ref(n, out, a, above, up_to == INT32_MAX ? up_to : up_to - 1);
}

static u64 select_with_end(size_t n, const float *a, i32 lo, i32 hi, u32 *list, size_t room,
                           u64 count[3]) {
    return lb_k_select_f32_ref(n, a, lo - 1, hi, list, room, count);
}

/* ---- what a layer computes ---- */

static void rms_norm_forgets_eps(size_t n, float *out, const float *x, const float *w, float eps) {
    lb_k_rms_norm_f32_ref(n, out, x, w, eps < 1 ? 0 : eps);
}

static float softmax_part_keeps_sum(size_t n, float *x, float scale, float softcap,
                                    float state[2]) {
    const float sum = state[1], before = lb_k_softmax_part_f32_ref(n, x, scale, softcap, state);
    state[1] += sum - sum * before;
    return before;
}

static void rope_turns_back(size_t n_heads, size_t head_stride, size_t n_rot, float *x,
                            const float *cos, const float *sin) {
    float back[2048];
    for (size_t i = 0; i < n_rot / 2; i++)
        back[i] = -sin[i];
    lb_k_rope_half_f32_ref(n_heads, head_stride, n_rot, x, cos, back);
}

static void conv_keeps_state(size_t n_channels, size_t width, float *out, float *state,
                             const float *x, const float *w, const float *bias) {
    float last[2048];
    const bool has = width == 4 && n_channels;
    float *const s = state + 2 * n_channels;
    if (has)
        memcpy(last, s, n_channels * sizeof *s);
    lb_k_conv_step_f32_ref(n_channels, width, out, state, x, w, bias);
    if (has)
        memcpy(s, last, n_channels * sizeof *s);
}

static void mix_skips_last_query(size_t n_queries, size_t n_rows, size_t v_dim, float *acc,
                                 size_t acc_stride, const float *p, const void *v, size_t v_bytes) {
    lb_k_attend_mix_q4_0_ref(n_queries - (n_queries == 5), n_rows, v_dim, acc, acc_stride, p, v,
                             v_bytes);
}

static void dot_reads_tail(size_t n_queries, size_t n_rows, size_t k_dim, float *out,
                           const float *q, const void *k, size_t k_bytes) {
    volatile const u8 *at = k;
    if (n_rows && k_dim)
        (void)at[(n_rows - 1) * k_bytes + (k_dim + 15) / 16 * 16 * 2 - 1];
    lb_k_attend_dot_f16_ref(n_queries, n_rows, k_dim, out, q, k, k_bytes);
}

void selftest(const options *o, u32 *n_caught, u32 *n_missed) {
    static const struct {
        const char *kernel;
        const char *fault;
        any_fn *fn;
    } broken[] = {
        {"rms_norm_f32", "forgets eps", (any_fn *)rms_norm_forgets_eps},
        {"softmax_part_f32", "keeps the sum as it was", (any_fn *)softmax_part_keeps_sum},
        {"rope_half_f32", "turns back", (any_fn *)rope_turns_back},
        {"conv_step_f32", "forgets a token", (any_fn *)conv_keeps_state},
        {"attend_mix_q4_0", "skips a query", (any_fn *)mix_skips_last_query},
        {"attend_dot_f16", "reads past a row's end", (any_fn *)dot_reads_tail},
        {"decode_f32_f16", "forgets the last element of a tail", (any_fn *)f16_tail_short},
        {"decode_f32_bf16", "writes one past the end", (any_fn *)bf16_writes_past},
        {"decode_f32_q8_0", "writes one before the start", (any_fn *)q8_0_writes_before},
        {"decode_f32_f16", "reads one past the end", (any_fn *)f16_reads_past},
        {"fold_sum_f32", "reads one before the start", (any_fn *)sum_reads_before},
        {"map_mulc_f32", "writes to its input", (any_fn *)mulc_writes_input},
        {"decode_f32_q4_0", "swaps the nibbles", (any_fn *)q4_0_nibbles_swapped},
        {"decode_f32_mlx_q8", "fuses product and sum", (any_fn *)mlx_fused},
        {"encode_f16_f32", "does not clamp", (any_fn *)f16_no_clamp},
        {"encode_bf16_f32", "truncates", (any_fn *)bf16_truncates},
        {"encode_bf16_f32", "rounds ties away from zero", (any_fn *)bf16_ties_away},
        {"encode_f16_f32", "sets the counts instead of adding", (any_fn *)f16_counts_set},
        {"decode_f32_mlx_q4", "rounds once instead of twice", (any_fn *)mlx_one_rounding},
        {"map_add_f32", "lets a NaN through as it is", (any_fn *)add_keeps_nan},
        {"map_sub_f32", "writes before it has read", (any_fn *)sub_not_in_place},
        {"map_fmac_f32", "does not fuse", (any_fn *)fmac_unfused},
        {"fold_sum_f32", "adds in another order", (any_fn *)sum_in_8_lanes},
        {"fold_dot_f32", "multiplies in float", (any_fn *)dot_in_float},
        {"fold_range_f32", "takes -0 for +0", (any_fn *)range_takes_zeros_alike},
        {"transpose", "writes between the rows", (any_fn *)transpose_fills_gaps},
        {"gemm_f32", "does not fuse", (any_fn *)gemm_unfused},
        {"gram_f64", "begins each chain anew", (any_fn *)gram_from_zero},
        {"decode_f32_lut4", "swaps the halves where it begins", (any_fn *)lut4_swaps_halves},
        {"decode_f32_words", "reads a row that it does not need", (any_fn *)words_reads_next},
        {"decode_f32_words", "takes no bits of the next word", (any_fn *)words_drops_crossing},
        {"decode_f32_awq", "takes codes in order", (any_fn *)awq_in_order},
        {"quant_mlx_q4", "rounds by the CPU's rule", (any_fn *)q4_ties_even},
        {"quant_mlx_q3", "truncates a scale", (any_fn *)q3_scale_first},
        {"quant_mlx_q8", "keeps silent about NaN", (any_fn *)q8_keeps_silent},
        {"quant_mlx_q6", "takes scales before they are stored", (any_fn *)q6_as_before},
        {"quant_mlx_mxfp4", "drops the signs of zeros", (any_fn *)mxfp4_drops_zero_signs},
        {"quant_groups", "leaves the last word unfilled", (any_fn *)groups_unpacked_tail},
        {"quant_f8_e4m3", "does not stop at 448", (any_fn *)f8_past_448},
        {"quant_i8", "wraps around", (any_fn *)i8_wraps},
        {"mt_blocks", "takes the old first word at the end", (any_fn *)mt_old_first_word},
        {"mt_mask", "keeps what is equal", (any_fn *)mt_keeps_equal},
        {"mt_mask", "leaves bits in the last byte", (any_fn *)mt_leaves_tail},
        {"fold_range_bf16", "takes NaN for a maximum", (any_fn *)range_bf16_takes_nan},
        {"map_keep_f32", "drops the upper end", (any_fn *)keep_below},
        {"select_f32", "collects one of the ends", (any_fn *)select_with_end},
    };
    static ladder l = {.step[1].name = "broken", .n_steps = 2};
    lb_kernels_init(&l.step[0].k, 0);
    *n_caught = *n_missed = 0;
    for (size_t b = 0; b < LB_LEN(broken); b++) {
        bool caught = false;
        for (size_t i = 0; i < n_kerns(); i++) {
            const kern w = get_kern(i);
            if (strcmp(w.name, broken[b].kernel) != 0)
                continue;
            l.step[1].k = l.step[0].k;
            memcpy((u8 *)&l.step[1].k + w.slot, &broken[b].fn, sizeof broken[b].fn);
            caught = check_kern(o, &w, &l, 2) != 0;
        }
        if (caught)
            ++*n_caught;
        else
            ++*n_missed;
        if (!caught)
            printf("FAIL selftest: a %s that %s was not caught\n", broken[b].kernel,
                   broken[b].fault);
    }
}
