/* SPDX-License-Identifier: Apache-2.0 */
/* selftest_encode.c: kernels that quantize, against the scalar quantizers of kernel/, byte by byte:
 * values of all magnitudes, with importance and, where the type can do without, without. */
#include "device/encode.h"
#include "device/selftest_cases.h"
#include "kernel/kernel.h"
#include "kernel/quant_grid.h"
#include "kernel/refine.h"
#include <stdio.h>

/* row_blocks 0: without importance. Threadgroups have up to 64 blocks. */
typedef struct shape {
    u32 n_blocks, row_blocks, first_block, odd_weights;
} shape;
static const shape shapes[] = {{23, 0, 0, 0}, {26, 13, 5, 0}, {1, 1, 0, 0}, {29, 3, 2, 1}};
static const shape large = {4099, 16, 7, 0};

/* A codebook's lists as either side takes them: the same for all cases of a type. */
typedef struct codebook {
    void *tables;
    u32 *grid;
} codebook;

typedef struct encode {
    lb_dtype type;
    lb_encode_args a;
    float *in, *imp;
    const codebook *book;
    u8 *want, *got;
    u64 n_elems, in_bytes, imp_bytes, grid_bytes, out_bytes;
} encode;

/* Values of a model: near zero, few large ones. */
static float bell(lb_selftest *t) {
    float sum = 0;
    for (u32 i = 0; i < 6; i++)
        sum += lb_selftest_float(t);
    return sum * 0.02f;
}

float lb_selftest_encode_value(lb_selftest *t, u32 way, u32 i) {
    const float v = lb_selftest_float(t), b = bell(t);
    switch (way) {
    case 1:
        return 0;
    case 2:
        return 0.37f;
    case 3: /* groups of zeros between others */
        return i / 32 % 3 == 1 ? 0 : b;
    case 4: /* halves and ties */
        return (float)((i32)(v * 8)) * 0.25f;
    case 5:
        return v < 0 ? v : -v;
    case 6:
        return v < 0 ? -v : v;
    case 7: /* one value far from the others */
        return i == 77 ? 31.0f : b * 0.01f;
    case 8: /* squares and sums overflow */
        return v * 0x1p+100f;
    case 9:
        return i % 16 == 3 ? -b : i % 16 == 4 ? b * 0x1p-9f : 0;
    case 10: /* below what counts as zero, or just above it */
        return v * (i < 128 ? 1e-15f : 2e-12f);
    case 11: /* squares are subnormal or zero */
        return v * 0x1p-70f;
    case 12: /* so are values */
        return v * 0x1p-130f;
    default:
        return b;
    }
}

static void fill(lb_selftest *t, const encode *e, u32 block_elems, const shape *s) {
    /* what needs subnormal numbers comes last: devices that flush them are not promised */
    const u32 ways = lb_dev_encode_exact(lb_dev_info_get(t->dev)->kind) ? LB_SELFTEST_WAYS : 10;
    for (u64 i = 0; i < e->n_elems; i++)
        e->in[i] =
            lb_selftest_encode_value(t, (u32)(i / block_elems) % ways, (u32)(i % block_elems));
    for (u64 i = 0; i < e->imp_bytes / sizeof(float) && s->row_blocks; i++) {
        const float v = lb_selftest_float(t);
        e->imp[i] = v * v + 0.001f;
        if (s->odd_weights && i % 37 == 5)
            e->imp[i] = i % 74 == 5 ? 0 : v; /* none at all; less than none */
    }
}

static const codebook *codebook_of(lb_selftest *t, lb_dtype type) {
    const u32 words = lb_dev_encode_table_words(type);
    if (t->kept_at)
        return t->kept_at;
    codebook *b = lb_arena_new(&t->kept, codebook, 1);
    void *tables = lb_arena_push(&t->kept, LB_MAX(lb_quant_tables_bytes(type), 1), 64);
    u32 *grid = lb_arena_new(&t->kept, u32, LB_MAX(words, 1));
    if (!b || !tables || !grid)
        return NULL;
    *b = (codebook){tables, grid};
    if (words) {
        lb_quant_tables_init(type, tables);
        lb_dev_encode_table(type, tables, grid);
    }
    return t->kept_at = b;
}

static lb_status make(lb_selftest *t, encode *e, const shape *s, lb_err *err) {
    const lb_dtype_info *d = lb_dtype_get(e->type);
    e->a = (lb_encode_args){.n_blocks = s->n_blocks,
                            .row_blocks = LB_MAX(s->row_blocks, 1u),
                            .first_block = s->first_block,
                            .has_importance = s->row_blocks != 0};
    e->n_elems = (u64)s->n_blocks * d->block_elems;
    e->in_bytes = e->n_elems * sizeof(float);
    e->imp_bytes = (u64)e->a.row_blocks * d->block_elems * sizeof(float);
    e->grid_bytes = (u64)lb_dev_encode_table_words(e->type) * sizeof(u32);
    e->out_bytes = (u64)s->n_blocks * d->block_bytes;
    e->in = lb_arena_push(&t->arena, (size_t)e->in_bytes, 16);
    e->imp = lb_arena_push(&t->arena, (size_t)e->imp_bytes, 16);
    e->book = codebook_of(t, e->type);
    e->want = lb_arena_push(&t->arena, (size_t)e->out_bytes, 16);
    e->got = lb_arena_push(&t->arena, (size_t)e->out_bytes, 16);
    if (!e->in || !e->imp || !e->book || !e->want || !e->got)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a case");
    memset(e->imp, 0, (size_t)e->imp_bytes);
    fill(t, e, d->block_elems, s);
    return LB_OK;
}

/* Block by block: importance begins anew with every row. blocks: those that are refined; else NULL.
 */
static void reference(const encode *e, u32 block_elems, u32 block_bytes, u8 *blocks) {
    lb_kernels k;
    lb_kernels_init(&k, 0);
    for (u32 b = 0; b < e->a.n_blocks; b++) {
        const u32 col = (e->a.first_block + b) % e->a.row_blocks * block_elems;
        lb_kernels_quant(&k, e->type)(block_elems, e->want + (u64)b * block_bytes,
                                      e->in + (u64)b * block_elems,
                                      e->a.has_importance ? e->imp + col : NULL, e->book->tables);
        if (!blocks)
            continue;
        memcpy(blocks + (u64)b * block_bytes, e->want + (u64)b * block_bytes, block_bytes);
        lb_refine_blocks(&k, e->type, block_elems, e->want + (u64)b * block_bytes,
                         e->in + (u64)b * block_elems, e->a.has_importance ? e->imp + col : NULL);
    }
}

lb_status lb_selftest_encode(lb_selftest *t, u32 i, bool *more, lb_err *err) {
    static const lb_dtype types[] = {LB_Q2_K,    LB_Q3_K,   LB_Q4_K,    LB_Q5_K,   LB_Q6_K,
                                     LB_IQ4_NL,  LB_IQ4_XS, LB_IQ2_XXS, LB_IQ2_XS, LB_IQ2_S,
                                     LB_IQ3_XXS, LB_IQ3_S,  LB_IQ1_S,   LB_IQ1_M};
    shape s = i < LB_LEN(shapes) ? shapes[i] : large;
    encode e = {.type = LB_Q2_K};
    lb_dev_kernel k = LB_DEV_KERNEL_COUNT;
    const bool refines = lb_dev_kernel_needs(t->row->kernel) == LB_DEV_NEEDS_DOUBLE;
    for (u32 j = 0; j < LB_LEN(types) && k != t->row->kernel; j++) {
        e.type = types[j];
        (void)(refines ? lb_dev_refine_of : lb_dev_encode_of)(e.type, &k);
    }
    const lb_dtype_info *d = lb_dtype_get(e.type);
    /* the reference takes a millisecond a block: no large case of refinements */
    *more = i + 1 < LB_LEN(shapes) + (t->opts->large && !refines ? 1 : 0);
    if (!s.row_blocks && (e.type == LB_IQ2_XXS || e.type == LB_IQ2_XS || e.type == LB_IQ1_S))
        s.row_blocks = 2; /* they need importance */
    if (refines)
        s.n_blocks = (s.n_blocks + 1) / 2;
    (void)snprintf(t->where, sizeof t->where, "%s, %u blocks, importance of %u", d->name,
                   s.n_blocks, s.row_blocks);
    LB_TRY(make(t, &e, &s, err));
    u8 *blocks = refines ? lb_arena_push(&t->arena, (size_t)e.out_bytes, 16) : NULL;
    if (refines && !blocks)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a case");
    reference(&e, d->block_elems, d->block_bytes, blocks);
    const lb_selftest_data in = {e.in, e.in_bytes}, imp = {e.imp, e.imp_bytes},
                           grid = {e.book->grid, e.grid_bytes}, out = {NULL, e.out_bytes};
    const bool has_grid = e.grid_bytes != 0;
    const lb_selftest_data bufs[4] = {in, imp,
                                      refines    ? (lb_selftest_data){blocks, e.out_bytes}
                                      : has_grid ? grid
                                                 : out,
                                      out};
    LB_TRY(lb_selftest_launch(t, bufs, &e.a, e.got, err));
    for (u64 n = 0; n < e.out_bytes; n++)
        lb_selftest_compare(t, n, (float)e.got[n], (double)e.want[n], 0);
    return LB_OK;
}
