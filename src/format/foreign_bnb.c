/* SPDX-License-Identifier: Apache-2.0 */
/* foreign_bnb.c: bitsandbytes: NF4 and FP4, plain and nested ("double quantization"), and LLM.int8.
 * bitsandbytes 0.50.2 functional.py QuantState, backends/default/ops.py dequantize_4bit,
 * dequantize_blockwise and int8_vectorwise_dequant; nn/modules.py maybe_rearrange_weight.
 *
 * What a four-bit weight is stands in a JSON text that is a tensor of bytes beside it. Its blocks
 * count values in row-major order, so that they cross rows whose length they do not divide. */
#include "format/foreign_internal.h"
#include "tensor/four_bit.h"

#define STATE_MAX (64 * LB_KIB)
#define MAP_ELEMS 256

/* ---- four bits ---- */

typedef struct state {
    lb_str path;
    const lb_tensor *text, *codes, *absmax, *nested_absmax, *nested_map;
    lb_shape shape;
    lb_enc enc;
    u64 n_elems;
} state;

static lb_status odd(lb_fgn *f, const state *x, const char *key) {
    return lb_fail(f->err, LB_E_UNSUPPORTED, "tensor '%.*s': '%s' is not one that is supported",
                   LB_FMT(x->text->name), key);
}

static bool is_block(u64 n) { /* a power of two from 32 to 4096 */
    return n >= 32 && n <= 4096 && (n & (n - 1)) == 0;
}

static bool find_dtype(const lb_json *v, lb_dtype *out) {
    static const struct {
        const char *name;
        lb_dtype dtype;
    } names[] = {{"float32", LB_F32}, {"float16", LB_F16}, {"bfloat16", LB_BF16}};
    lb_str s;
    for (size_t i = 0; lb_json_as_str(v, &s) && i < LB_LEN(names); i++)
        if (lb_str_eq_c(s, names[i].name)) {
            *out = names[i].dtype;
            return true;
        }
    return false;
}

static lb_status parse_nested(lb_fgn *f, state *x, const lb_json *root) {
    u64 size;
    double offset;
    lb_dtype dtype;
    LB_TRY(lb_fgn_find(f, x->path, ".weight.nested_absmax", &x->nested_absmax));
    if (!x->nested_absmax)
        return LB_OK;
    LB_TRY(lb_fgn_need(f, x->path, ".weight.nested_quant_map", &x->nested_map));
    if (!lb_json_as_u64(lb_json_get(root, "nested_blocksize"), &size) || !is_block(size))
        return odd(f, x, "nested_blocksize");
    if (!lb_json_as_f64(lb_json_get(root, "nested_offset"), &offset))
        return odd(f, x, "nested_offset");
    if (!find_dtype(lb_json_get(root, "nested_dtype"), &dtype) || dtype != LB_F32)
        return odd(f, x, "nested_dtype");
    x->enc.nested_size = (u32)size;
    x->enc.nested_offset = (float)offset;
    return LB_OK;
}

static lb_status parse_root(lb_fgn *f, state *x, const lb_json *root) {
    const lb_json *shape = lb_json_get(root, "shape");
    lb_str type;
    u64 block;
    bool nf4 = x->enc.kind == LB_ENC_BNB_NF4;
    if (!lb_json_as_str(lb_json_get(root, "quant_type"), &type) ||
        !lb_str_eq_c(type, nf4 ? "nf4" : "fp4"))
        return odd(f, x, "quant_type");
    if (!lb_json_as_u64(lb_json_get(root, "blocksize"), &block) || !is_block(block))
        return odd(f, x, "blocksize");
    if (!find_dtype(lb_json_get(root, "dtype"), &x->enc.rounded))
        return odd(f, x, "dtype");
    x->shape.rank = 2;
    if (!shape || shape->type != LB_JARRAY || shape->n != 2 ||
        !lb_json_as_u64(shape->first, &x->shape.dim[0]) ||
        !lb_json_as_u64(shape->last, &x->shape.dim[1]) || x->shape.dim[0] == 0 ||
        x->shape.dim[1] == 0 || !lb_shape_elems(&x->shape, &x->n_elems))
        return odd(f, x, "shape");
    x->enc.bits = 4;
    x->enc.group_size = (u32)block;
    return parse_nested(f, x, root);
}

static lb_status read_state(lb_fgn *f, state *x) {
    lb_arena arena = {0};
    lb_json *root = NULL;
    u64 n = x->text->size_bytes;
    if (x->text->dtype != LB_U8 || n == 0 || n > STATE_MAX)
        return lb_fail(f->err, LB_E_FORMAT, "tensor '%.*s': expected a short text in bytes",
                       LB_FMT(x->text->name));
    char *text = lb_arena_push(&arena, n, 1);
    lb_status st = text ? lb_fgn_read(f, x->text, text, n)
                        : lb_fail(f->err, LB_E_NOMEM, "out of memory for a quant_state");
    if (st == LB_OK) {
        st = lb_json_parse((lb_str){text, (size_t)n}, "quant_state", &arena, &root, f->err);
        if (st != LB_OK)
            lb_err_context(f->err, "tensor '%.*s'", LB_FMT(x->text->name));
    }
    if (st == LB_OK)
        st = parse_root(f, x, root);
    lb_arena_deinit(&arena);
    return st;
}

static lb_status check_map(lb_fgn *f, const state *x) {
    const lb_tensor *t;
    float map[16];
    const float *own = x->enc.kind == LB_ENC_BNB_NF4 ? lb_four_bit_nf4 : lb_four_bit_fp4;
    LB_TRY(lb_fgn_need(f, x->path, ".weight.quant_map", &t));
    if (t->dtype != LB_F32)
        return lb_fgn_misfit(f, t, x->codes, "expected 16 f32");
    LB_TRY(lb_fgn_read(f, t, map, sizeof map));
    for (u32 i = 0; i < 16; i++)
        if (!(map[i] == own[i]))
            return lb_fgn_misfit(f, t, x->codes, "its values are not those of the type");
    lb_fgn_take(f, t);
    return LB_OK;
}

static lb_status check_sizes(lb_fgn *f, const state *x) {
    u64 n_blocks = lb_ceil_div_u64(x->n_elems, x->enc.group_size);
    bool nested = x->enc.nested_size != 0;
    if (x->codes->size_bytes != lb_ceil_div_u64(x->n_elems, 2))
        return lb_fgn_misfit(f, x->text, x->codes, "its shape has another number of codes");
    if (x->codes->shape.rank == 2 && x->codes->shape.dim[0] == 1 && x->codes->shape.dim[1] != 1)
        return lb_fgn_misfit(f, x->text, x->codes, "one row of codes: of a transposed matrix");
    if (x->absmax->dtype != (nested ? LB_U8 : LB_F32) || x->absmax->n_elems != n_blocks)
        return lb_fgn_misfit(f, x->absmax, x->codes,
                             nested ? "expected a byte for each block"
                                    : "expected an f32 for each block");
    if (!nested)
        return LB_OK;
    if (x->nested_absmax->dtype != LB_F32 ||
        x->nested_absmax->n_elems != lb_ceil_div_u64(n_blocks, x->enc.nested_size))
        return lb_fgn_misfit(f, x->nested_absmax, x->absmax, "expected an f32 for each block");
    if (x->nested_map->dtype != LB_F32 || x->nested_map->n_elems != MAP_ELEMS)
        return lb_fgn_misfit(f, x->nested_map, x->absmax, "expected 256 f32");
    return LB_OK;
}

static lb_status four_bits(lb_fgn *f, const lb_tensor *t, lb_enc_kind kind, lb_str path) {
    state x = {.path = path, .text = t, .enc.kind = kind};
    LB_TRY(lb_fgn_need(f, path, ".weight", &x.codes));
    LB_TRY(lb_fgn_need(f, path, ".weight.absmax", &x.absmax));
    LB_TRY(read_state(f, &x));
    LB_TRY(check_sizes(f, &x));
    LB_TRY(check_map(f, &x));
    lb_fgn_take(f, t);
    return lb_fgn_add(
        f, path, x.shape, x.enc,
        (const lb_tensor *[]){x.codes, x.absmax, x.nested_absmax, x.nested_map, NULL});
}

/* ---- eight bits ---- */

static lb_status eight_bits(lb_fgn *f, const lb_tensor *scale, lb_str path) {
    const lb_tensor *w, *format;
    u8 layout;
    LB_TRY(lb_fgn_need(f, path, ".weight", &w));
    LB_TRY(lb_fgn_find(f, path, ".weight_format", &format));
    if (w->dtype != LB_I8 || w->shape.rank != 2)
        return lb_fgn_misfit(f, scale, w, "expected a matrix of i8");
    if (scale->dtype != LB_F32 || scale->n_elems != w->shape.dim[0])
        return lb_fgn_misfit(f, scale, w, "expected an f32 for each row");
    if (format) {
        if (format->dtype != LB_U8)
            return lb_fgn_misfit(f, format, w, "expected a byte");
        LB_TRY(lb_fgn_read(f, format, &layout, 1));
        if (layout != 0)
            return lb_fail(f->err, LB_E_UNSUPPORTED,
                           "tensor '%.*s' is %u: rows in another order than theirs (col32, "
                           "col_turing, col_ampere) are not supported",
                           LB_FMT(format->name), layout);
        lb_fgn_take(f, format);
    }
    return lb_fgn_add(f, path, w->shape, (lb_enc){.kind = LB_ENC_BNB_INT8, .bits = 8},
                      (const lb_tensor *[]){w, scale, NULL});
}

lb_status lb_fgn_bnb(lb_fgn *f) {
    lb_str path, type;
    if (lb_json_as_str(lb_json_get(f->config, "bnb_4bit_quant_type"), &type) &&
        !lb_str_eq_c(type, "nf4") && !lb_str_eq_c(type, "fp4"))
        return lb_fgn_refuse(f, "the type '%.*s' is not supported", LB_FMT(type));
    for (u64 i = 0; i < f->s->n_tensors; i++) {
        const lb_tensor *t = &f->s->tensors[i];
        if (lb_fgn_path(t, ".weight.quant_state.bitsandbytes__nf4", &path))
            LB_TRY(four_bits(f, t, LB_ENC_BNB_NF4, path));
        else if (lb_fgn_path(t, ".weight.quant_state.bitsandbytes__fp4", &path))
            LB_TRY(four_bits(f, t, LB_ENC_BNB_FP4, path));
        else if (lb_fgn_path(t, ".SCB", &path))
            LB_TRY(eight_bits(f, t, path));
    }
    return LB_OK;
}
