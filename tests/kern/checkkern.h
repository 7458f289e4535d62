/* SPDX-License-Identifier: Apache-2.0 */
/* checkkern.h: every kernel of every instruction set against its scalar reference.
 *
 * table.c lists the kernels from kernel.def; a kernel's shape of arguments (its signature) alone
 * decides how it is tested, so a new decoder needs no line here. cases.c enumerates cases and calls
 * kernels, fill.c makes the data, guard.c the memory, run.c compares, broken.c proves that faults
 * are caught, bench.c times. Nothing but base, tensor/dtype and kernel is linked. */
#ifndef LB_TESTS_KERN_CHECKKERN_H
#define LB_TESTS_KERN_CHECKKERN_H

#include "base/base.h"
#include "base/cpu.h"
#include "kernel/kernel.h"
#include <stdio.h>

/* ---- table.c: kernels ---- */

typedef enum sig {
    SIG_DECODE,
    SIG_ENCODE,
    SIG_MLX_AFFINE,
    SIG_MLX_FP,
    SIG_MAP1,
    SIG_MAP2,
    SIG_MAPC,
    SIG_FMAC,
    SIG_FOLD1,
    SIG_FOLD2,
    SIG_RANGE,
    SIG_TRANSPOSE,
    SIG_CODES,
    SIG_LUT4,
    SIG_WORDS,
    SIG_AWQ,
    SIG_QUANT,
    SIG_RANGE_ANY,
    SIG_MAGNITUDES,
    SIG_BINS,
    SIG_SUMS,
    SIG_MT_BLOCKS,
    SIG_MT_MASK,
    SIG_MT_UNIFORM,
    SIG_KEEP,
    SIG_SELECT,
    SIG_QUANT_GROUPS, /* from here on: quant.c */
    SIG_QUANT_FP,
    SIG_QUANT_F8,
    SIG_QUANT_I8,
    SIG_PARAMS,
    SIG_PACK,
    SIG_GEMM, /* from here on: dense.c */
    SIG_GRAM,
    SIG_DOT64,
    SIG_AXPY64,
    SIG_ROT64,
    SIG_OAI, /* from here on: nn.c */
    SIG_RMS,
    SIG_LAYER,
    SIG_MAX,
    SIG_SUM_EXP,
    SIG_INPLACE,
    SIG_SOFTPART,
    SIG_ROPE,
    SIG_CONV,
    SIG_DELTA,
    SIG_GEMM_PART,
    SIG_DOT_ROWS,
    SIG_MIX_ROWS,
    SIG_DOTS,      /* rows of f32 */
    SIG_DOTS16,    /* of f16, bf16 */
    SIG_Q8_BLOCKS, /* from here on: q8.c */
    SIG_Q8_MLX,
    SIG_Q8_ACT,
    SIG_Q8_DOTS,
    SIG_Q8_PANEL,
    SIG_Q8_GEMM,
    SIG_Q8_ROWS,
} sig;

typedef void(any_fn)(void); /* cast back by signature before a call */

typedef struct kern {
    const char *name;
    size_t slot; /* offset in lb_kernels */
    sig sig;
    lb_dtype type;   /* QUANT */
    u32 block_elems; /* DECODE, QUANT: elements and bytes of a block */
    u32 block_bytes; /* ENCODE: bytes of an element */
    u32 code_bits;   /* MLX; 0: the case says it */
} kern;

size_t n_kerns(void);
kern get_kern(size_t i);
any_fn *kern_fn(const lb_kernels *k, const kern *w);

/* One table per step of the ladder that this build and this machine have; [0] is the reference. */
typedef struct ladder {
    struct {
        const char *name;
        lb_kernels k;
    } step[8];
    size_t n_steps;
    u32 n_absent; /* family files of this build whose instructions the machine lacks */
} ladder;
void ladder_init(ladder *l);
bool has_own(const ladder *l, const kern *w, size_t s); /* no lower step has the same function */

/* ---- fill.c: deterministic data ---- */

typedef struct rng {
    u64 state;
} rng;

u64 rng_next(rng *r);
u64 rng_below(rng *r, u64 n);
float rng_normal(rng *r);

enum { N_FILLS = 10 };
void fill_f32(rng *r, u32 fill, float *out, size_t n);
/* unit_bytes: bytes of a stored element, 8 for f64, or 1 for blocks. */
void fill_codes(rng *r, u32 fill, u8 *out, size_t bytes, u32 unit_bytes);
const char *fill_name(u32 fill);

/* ---- guard.c: memory that faults on both sides ---- */

typedef struct area {
    u8 *lo; /* bytes from lo are usable; the pages before and after are not */
    size_t bytes;
} area;

enum { PLACE_ROOMY, PLACE_END, PLACE_START, PLACE_SHIFTED, N_PLACES };

void area_init(area *a, size_t bytes);
/* Room for `bytes` at: 64-byte aligned and roomy; flush with the page after; flush with the page
 * before; one `step` beside an aligned place. The bytes around it become canaries. */
u8 *area_place(const area *a, size_t bytes, u32 place, size_t step);
/* Whether the canaries around p[bytes] stand. */
bool area_intact(const area *a, const u8 *p, size_t bytes);

/* Runs fn(arg); false if it touched memory that it may not. */
bool guarded(void (*fn)(void *), void *arg);

/* ---- cases.c ---- */

typedef struct kcase {
    u64 seed;
    size_t n;      /* elements; MLX: groups; transpose: rows */
    size_t n_cols; /* transpose, products */
    size_t in_stride, out_stride, elem_bytes;
    size_t group_elems;
    u32 round;
    u32 bits;     /* CODES, WORDS */
    size_t first; /* CODES, LUT4; WORDS: the bit */
    float c, zero;
    u32 how;        /* quantizers: LB_QUANT */
    bool finite;    /* timing: no NaN and no Inf among weights */
    size_t part[3]; /* their places in the output */
    u32 fill, place;
    u32 alias; /* 0: none, i + 1: out is input i */
    u32 n_in;
    size_t out_bytes, in_bytes[3];
    size_t out_step, in_step[3]; /* alignment that the kernel may count on */
} kcase;

/* Results that do not go through `out`. */
typedef struct result {
    double fold;
    u64 n;
    float minmax[2];
    u64 counts[2];
} result;

/* false: no case of that index. */
bool kcase_make(const kern *w, bool is_long, u64 seed, size_t index, kcase *c);
void kcase_fill(const kern *w, const kcase *c, u32 input, u8 *out);
void kcase_call(const kern *w, any_fn *fn, const kcase *c, void *out, const void *const in[3],
                result *r);
void kcase_print(FILE *f, const kern *w, const kcase *c);
/* A case of about n_elems elements for timing. */
void kcase_bench(const kern *w, size_t n_elems, kcase *c);
size_t kcase_elems(const kern *w, const kcase *c);

/* ---- quant.c: the same of quantizers ---- */

bool is_quant(const kern *w);
u32 quant_variants(const kern *w);
u32 quant_bench(const kern *w); /* the variant to be timed */
void quant_sizes(const kern *w, kcase *c, u32 variant);
void quant_fill(const kern *w, const kcase *c, u32 input, u8 *out);
void quant_call(const kern *w, any_fn *fn, const kcase *c, void *out, const void *const in[3],
                result *r);

/* ---- dense.c: products, and vectors of doubles ---- */

bool is_dense(const kern *w);
u32 dense_variants(const kern *w);
bool dense_shape(const kern *w, bool is_long, size_t i, kcase *c);
void dense_sizes(const kern *w, kcase *c, u32 variant);
void dense_bench(const kern *w, kcase *c);
size_t dense_elems(const kern *w, const kcase *c);
void dense_fill(const kern *w, const kcase *c, u32 input, u8 *out);
void dense_call(const kern *w, any_fn *fn, const kcase *c, void *out, const void *const in[3],
                result *r);

/* ---- nn.c: what a layer computes in floats ---- */

bool is_nn(const kern *w);
u32 nn_variants(const kern *w);
bool nn_shape(const kern *w, bool is_long, size_t i, kcase *c);
void nn_sizes(const kern *w, kcase *c, u32 variant);
void nn_bench(const kern *w, kcase *c);
size_t nn_elems(const kern *w, const kcase *c);
void nn_fill(const kern *w, const kcase *c, u32 input, u8 *out);
void nn_call(const kern *w, any_fn *fn, const kcase *c, void *out, const void *const in[3],
             result *r);

/* ---- q8.c: products of eight bits ---- */

bool is_q8(const kern *w);
u32 q8_variants(const kern *w);
bool q8_shape(const kern *w, bool is_long, size_t i, kcase *c);
void q8_sizes(const kern *w, kcase *c, u32 variant);
void q8_bench(const kern *w, kcase *c);
size_t q8_elems(const kern *w, const kcase *c);
void q8_fill(const kern *w, const kcase *c, u32 input, u8 *out);
void q8_call(any_fn *fn, const kern *w, const kcase *c, void *out, const void *const in[3]);

/* ---- run.c ---- */

typedef struct options {
    const char *only; /* part of a kernel's name */
    const char *isa;
    bool is_long, selftest, bench, quiet, has_case;
    size_t one_case;
    u32 case_step; /* short: one case in so many */
    u64 seed;
} options;
#define DEFAULT_SEED 1

/* All cases of a kernel for steps of l (bits): those that failed, printed unless o->quiet. */
u32 check_kern(const options *o, const kern *w, const ladder *l, u32 steps);

/* ---- broken.c, bench.c ---- */

/* Counts of deliberately broken kernels that were caught and missed. */
void selftest(const options *o, u32 *n_caught, u32 *n_missed);
void bench(const options *o, const ladder *l);
double seconds(void);

#endif
