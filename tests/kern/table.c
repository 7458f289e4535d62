/* SPDX-License-Identifier: Apache-2.0 */
/* table.c: the kernels of kernel.def with the signature that decides how each is tested. */
#include "checkkern.h"

/* The types of one kernel of each signature; _Generic maps every other kernel of that type to it. A
 * kernel with a new signature does not compile here until somebody says how it is tested. */
#define SIG_OF(slot)                                        \
    _Generic((slot), lb_decode_fn *                         \
             : SIG_DECODE, lb_encode_fn *                   \
             : SIG_ENCODE, lb_k_decode_f32_mlx_q4_fn *      \
             : SIG_MLX_AFFINE, lb_k_decode_f32_mlx_fp4_fn * \
             : SIG_MLX_FP, lb_k_map_round_f16_f32_fn *      \
             : SIG_MAP1, lb_k_map_add_f32_fn *              \
             : SIG_MAP2, lb_k_map_addc_f32_fn *             \
             : SIG_MAPC, lb_k_map_fmac_f32_fn *             \
             : SIG_FMAC, lb_k_fold_sum_f32_fn *             \
             : SIG_FOLD1, lb_k_fold_dot_f32_fn *            \
             : SIG_FOLD2, lb_k_fold_range_f32_fn *          \
             : SIG_RANGE, lb_k_transpose_fn *               \
             : SIG_TRANSPOSE, lb_k_decode_f32_codes_fn *    \
             : SIG_CODES, lb_k_decode_f32_lut4_fn *         \
             : SIG_LUT4, lb_k_decode_f32_words_fn *         \
             : SIG_WORDS, lb_k_decode_f32_awq_fn *          \
             : SIG_AWQ, lb_quant_fn *                       \
             : SIG_QUANT, lb_k_fold_range_f16_fn *          \
             : SIG_RANGE_ANY, lb_k_magnitudes_f32_fn *      \
             : SIG_MAGNITUDES, lb_k_magnitude_bins_f32_fn * \
             : SIG_BINS, lb_k_sums_u32_fn *                 \
             : SIG_SUMS, lb_k_mt_blocks_fn *                \
             : SIG_MT_BLOCKS, lb_k_mt_mask_fn *             \
             : SIG_MT_MASK, lb_k_mt_uniform_f32_fn *        \
             : SIG_MT_UNIFORM, lb_k_map_keep_f32_fn *       \
             : SIG_KEEP, lb_k_select_f32_fn *               \
             : SIG_SELECT, lb_k_quant_mlx_q4_fn *           \
             : SIG_QUANT_GROUPS, lb_k_quant_mlx_mxfp4_fn *  \
             : SIG_QUANT_FP, lb_k_quant_f8_e4m3_fn *        \
             : SIG_QUANT_F8, lb_k_quant_i8_fn *             \
             : SIG_QUANT_I8, lb_k_quant_params_fn *         \
             : SIG_PARAMS, lb_k_pack_codes_fn *             \
             : SIG_PACK, lb_k_gemm_f32_fn *                 \
             : SIG_GEMM, lb_k_gram_f64_fn *                 \
             : SIG_GRAM, lb_k_dot_f64_fn *                  \
             : SIG_DOT64, lb_k_axpy_f64_fn *                \
             : SIG_AXPY64, lb_k_rot_f64_fn *                \
             : SIG_ROT64, lb_k_swiglu_oai_mul_f32_fn *      \
             : SIG_OAI, lb_k_rms_norm_f32_fn *              \
             : SIG_RMS, lb_k_layer_norm_f32_fn *            \
             : SIG_LAYER, lb_k_max_f32_fn *                 \
             : SIG_MAX, lb_k_sum_exp_f32_fn *               \
             : SIG_SUM_EXP, lb_k_softmax_f32_fn *           \
             : SIG_INPLACE, lb_k_softmax_part_f32_fn *      \
             : SIG_SOFTPART, lb_k_rope_half_f32_fn *        \
             : SIG_ROPE, lb_k_conv_step_f32_fn *            \
             : SIG_CONV, lb_k_delta_steps_f32_fn *          \
             : SIG_DELTA, lb_k_gemm_part_f32_fn *           \
             : SIG_GEMM_PART, lb_k_attend_dot_f32_fn *      \
             : SIG_DOT_ROWS, lb_k_attend_mix_f32_fn *       \
             : SIG_MIX_ROWS, lb_k_dots_f32_fn *             \
             : SIG_DOTS, lb_k_dots_f16_fn *                 \
             : SIG_DOTS16, lb_k_codes_q4_0_fn *             \
             : SIG_Q8_BLOCKS, lb_k_codes_mlx_q4_fn *        \
             : SIG_Q8_MLX, lb_k_act_q8_fn *                 \
             : SIG_Q8_ACT, lb_k_dots_q8_fn *                \
             : SIG_Q8_DOTS, lb_k_panel_q8_fn *              \
             : SIG_Q8_PANEL, lb_k_gemm_q8_fn *              \
             : SIG_Q8_GEMM, lb_k_rows_q4_0_fn *             \
             : SIG_Q8_ROWS)

/* Both classes compare bytes; another class would need its own comparison in run.c. */
enum { COMPARE_EXACT, COMPARE_FOLD };

static const struct {
    const char *name;
    size_t slot;
    sig sig;
    int compare;
} kerns[] = {
#define LB_KERNEL(name, ret, args, cmp) \
    {#name, offsetof(lb_kernels, name), SIG_OF(((lb_kernels *)NULL)->name), COMPARE_##cmp},
#include "kernel/kernel.def"
#undef LB_KERNEL
};

size_t n_kerns(void) {
    return LB_LEN(kerns);
}

/* The storage type whose name the kernel ends or goes on with; bytes where it is none (E8M0 of
 * MLX). */
static void find_type(kern *w, const char *type, size_t len) {
    w->block_elems = 1;
    w->block_bytes = 1;
    for (int t = 0; t < LB_DTYPE_COUNT; t++) {
        const lb_dtype_info *info = lb_dtype_get((lb_dtype)t);
        if (strlen(info->name) == len && memcmp(info->name, type, len) == 0) {
            w->block_elems = info->block_elems;
            w->block_bytes = info->block_bytes;
            w->type = (lb_dtype)t;
        }
    }
}

kern get_kern(size_t i) {
    kern w = {.name = kerns[i].name, .slot = kerns[i].slot, .sig = kerns[i].sig};
    const size_t len = strlen(w.name);
    if (w.sig == SIG_DECODE) /* decode_f32_<type> */
        find_type(&w, w.name + 11, len - 11);
    else if (w.sig == SIG_QUANT) /* quant_<type>_f32 */
        find_type(&w, w.name + 6, len - 10);
    else if (w.sig == SIG_ENCODE) /* encode_<type>_f32 */
        find_type(&w, w.name + 7, len - 11);
    else if (w.sig == SIG_RANGE_ANY) /* fold_range_<type> */
        find_type(&w, w.name + 11, len - 11);
    else if (w.sig == SIG_DOT_ROWS || w.sig == SIG_MIX_ROWS) /* attend_dot_<type> */
        find_type(&w, w.name + 11, len - 11);
    else if (w.sig == SIG_Q8_BLOCKS) /* codes_<type> */
        find_type(&w, w.name + 6, len - 6);
    else if (w.sig == SIG_Q8_ROWS && !strstr(w.name, "mlx")) /* rows_<type> */
        find_type(&w, w.name + 5, len - 5);
    else if (w.sig == SIG_Q8_ROWS || w.sig == SIG_Q8_MLX || w.sig == SIG_MLX_AFFINE ||
             w.sig == SIG_MLX_FP || strstr(w.name, "quant_mlx_"))
        w.code_bits = (u32)(w.name[len - 1] - '0');
    return w;
}

any_fn *kern_fn(const lb_kernels *k, const kern *w) {
    any_fn *fn;
    memcpy(&fn, (const u8 *)k + w->slot, sizeof fn);
    return fn;
}

bool has_own(const ladder *l, const kern *w, size_t s) {
    for (size_t i = 0; i < s; i++)
        if (kern_fn(&l->step[i].k, w) == kern_fn(&l->step[s].k, w))
            return false;
    return true;
}

#if defined(__x86_64__) && !defined(LB_NO_SIMD)
#define BUILT_avx2 LB_ISA_AVX2
#define BUILT_avxvnni LB_ISA_AVXVNNI
#define BUILT_avx512 LB_ISA_AVX512
#define BUILT_avx512vnni LB_ISA_AVX512VNNI
#define BUILT_avx512vbmi LB_ISA_AVX512VBMI
#define BUILT_neon 0u
#define BUILT_dotprod 0u
#define BUILT_i8mm 0u
#elif defined(__aarch64__) && !defined(LB_NO_SIMD)
#define BUILT_avx2 0u
#define BUILT_avxvnni 0u
#define BUILT_avx512 0u
#define BUILT_avx512vnni 0u
#define BUILT_avx512vbmi 0u
#define BUILT_neon LB_ISA_NEON
#define BUILT_dotprod LB_ISA_DOTPROD
#define BUILT_i8mm LB_ISA_I8MM
#else
#define BUILT_avx2 0u
#define BUILT_avxvnni 0u
#define BUILT_avx512 0u
#define BUILT_avx512vnni 0u
#define BUILT_avx512vbmi 0u
#define BUILT_neon 0u
#define BUILT_dotprod 0u
#define BUILT_i8mm 0u
#endif

/* The files of AVX-VNNI, compiled once more with the same instruction as AVX-512 encodes it. */
#ifdef KERN_EVEX
void lb_kinit_q8_evex(lb_kernels *k);
void lb_kinit_q8_rows_evex(lb_kernels *k);
void lb_kinit_q8_single_evex(lb_kernels *k);

static u32 stand_in(u32 have) {
    return have & LB_ISA_AVX512VNNI ? LB_ISA_AVXVNNI & ~have : 0;
}

static void init_evex(lb_kernels *k) {
    lb_kinit_q8_evex(k);
    lb_kinit_q8_rows_evex(k);
    lb_kinit_q8_single_evex(k);
}
#else
static u32 stand_in(u32 have) {
    (void)have;
    return 0;
}

static void init_evex(lb_kernels *k) {
    (void)k;
}
#endif

void ladder_init(ladder *l) {
    static const u32 isas[] = {LB_ISA_AVX2,       LB_ISA_AVXVNNI, LB_ISA_AVX512,  LB_ISA_AVX512VNNI,
                               LB_ISA_AVX512VBMI, LB_ISA_NEON,    LB_ISA_DOTPROD, LB_ISA_I8MM};
    const u32 other = stand_in(lb_cpu_isa()), have = lb_cpu_isa() | other;
    u32 mask = 0;
    memset(l, 0, sizeof *l);
    l->step[0].name = lb_isa_name(LB_ISA_REF);
    lb_kernels_init(&l->step[0].k, 0);
    l->n_steps = 1;
    for (size_t i = 0; i < LB_LEN(isas); i++) {
        if (!(have & isas[i]))
            continue;
        mask |= isas[i];
        lb_kernels *const k = &l->step[l->n_steps].k;
        l->step[l->n_steps++].name = lb_isa_name((lb_isa)isas[i]);
        lb_kernels_init(k, mask & ~other);
        if (isas[i] & other)
            init_evex(k);
    }
    static const u32 built[] = {
        0,
#define LB_FAMILY(family, isa) BUILT_##isa,
#include "kernel/families.def"
#undef LB_FAMILY
    };
    for (size_t i = 0; i < LB_LEN(built); i++)
        l->n_absent += (built[i] & ~have) != 0;
}
