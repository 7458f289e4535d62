/* SPDX-License-Identifier: Apache-2.0 */
/* convert_codes.c: codes of quantized tensors that go from GGUF to MLX and back as they are.
 *
 * A form is a kind of codes that both know: E2M1 with a shared exponent (GGUF's MXFP4), and whole
 * numbers of 4, 5 and 8 bits in groups of 32 with a scale and a bias in f16 (Q4_0, Q4_1, Q5_0,
 * Q5_1, Q8_0; MLX's affine). MLX has no symmetric kind: that all codes of so many bits were such is
 * recorded in the files' metadata ("lbrx.codes") and tested group by group on the way back. */
#include "format/mlx.h"
#include "format/safetensors.h"
#include "ops/quantize_internal.h"

#define KEY_CODES "lbrx.codes"

static const struct form {
    lb_repack mlx;          /* words of codes */
    lb_repack plain, other; /* blocks of GGUF: symmetric, and with a bias */
    lb_enc_kind mode;
    u32 bits;
} forms[] = {
    {LB_REPACK_MXFP4_CODES, LB_REPACK_MXFP4, LB_REPACK_MXFP4, LB_ENC_MLX_MXFP4, 4},
    {LB_REPACK_AFFINE4, LB_REPACK_Q4_0, LB_REPACK_Q4_1, LB_ENC_MLX_AFFINE, 4},
    {LB_REPACK_AFFINE5, LB_REPACK_Q5_0, LB_REPACK_Q5_1, LB_ENC_MLX_AFFINE, 5},
    {LB_REPACK_AFFINE8, LB_REPACK_Q8_0, LB_REPACK_NONE, LB_ENC_MLX_AFFINE, 8},
};
enum { MXFP4 };

void lb_conv_codes_begin(lb_conv *c) {
    lb_arena scratch = {0};
    lb_str codes;
    size_t at;
    if (c->src->format == LB_FORMAT_MLX &&
        lb_st_metadata_find(c->src->st_metadata, LB_STR(KEY_CODES), &scratch, &codes))
        for (u32 f = MXFP4 + 1; f < LB_LEN(forms); f++) {
            lb_dtype plain = lb_repack_dtype(forms[f].plain);
            if (lb_str_find(codes, lb_str_c(lb_dtype_get(plain)->name), &at))
                c->codes.symmetric |= 1u << f;
        }
    lb_arena_deinit(&scratch);
}

lb_repack lb_conv_codes_block(const lb_conv *c, u32 form) {
    return form == MXFP4 || c->codes.symmetric >> form & 1 ? forms[form].plain : forms[form].other;
}

/* A quantizer's MLX folder has codes of one kind, but for what rules say and for the experts of
 * gpt-oss. */
static bool wanted(const lb_conv *c, const struct form *f) {
    if (!c->quantizer || c->model.format != LB_FORMAT_MLX)
        return true;
    if (f == &forms[MXFP4] && c->src->format == LB_FORMAT_HF)
        return true; /* mlx-lm quantizes what is left of such models */
    const lb_enc *e = &c->quantizer->type[0].mlx.enc;
    if (f == &forms[MXFP4])
        return e->kind == LB_ENC_MLX_MXFP4;
    return e->kind == LB_ENC_MLX_AFFINE && e->bits == f->bits && e->group_size == 32 &&
           !c->quantizer->type[0].mlx.low_bits;
}

static bool keeps(const lb_conv *c, const lb_assembly *a, const lb_made_of *m, bool exact,
                  u32 *form) {
    lb_format from = c->src->format, to = c->model.format;
    bool mlx = to == LB_FORMAT_MLX;
    if (c->o->cast || c->o->codes == LB_CODES_NONE || (to != LB_FORMAT_GGUF && !mlx) ||
        (mlx && !lb_str_ends(m->name, LB_STR(".weight"))))
        return false;
    for (*form = 0; *form < LB_LEN(forms); (*form)++) {
        if (*form != MXFP4 && from != LB_FORMAT_GGUF && from != LB_FORMAT_MLX)
            return false;
        lb_repack r = mlx ? forms[*form].mlx : lb_conv_codes_block(c, *form);
        if (r != LB_REPACK_NONE && wanted(c, &forms[*form]) && lb_assembly_keeps(a, m, r, exact))
            return true;
    }
    return false;
}

bool lb_conv_keeps_codes(const lb_conv *c, const lb_assembly *a, const lb_made_of *m, u32 *form) {
    return keeps(c, a, m, c->o->codes == LB_CODES_EXACT, form);
}

void lb_conv_note_values(lb_conv *c, const lb_assembly *a, const lb_made_of *m) {
    u32 form;
    c->codes.n_near += c->o->codes == LB_CODES_EXACT && keeps(c, a, m, false, &form);
}

void lb_conv_say_values(lb_conv *c) {
    if (c->codes.n_near && !c->quantizer)
        lb_conv_remark(c,
                       "codes of %llu tensors become values, because their scales are not stored "
                       "as f16: --codes near keeps the codes and rounds scales where it must",
                       (unsigned long long)c->codes.n_near);
}

void lb_conv_codes_choose(lb_conv *c, const lb_assembly *a) {
    u32 form;
    if (c->src->format != LB_FORMAT_GGUF || c->model.format != LB_FORMAT_MLX)
        return;
    for (u64 i = 0; i < a->n && !c->codes.affine; i++)
        c->codes.affine = lb_conv_keeps_codes(c, a, &a->tensor[i], &form) && form != MXFP4;
    if (c->codes.affine)
        c->canon.main_dtype = LB_F16;
}

void lb_conv_count_codes(lb_conv *c, lb_dtype t) {
    c->codes.n_of[t]++;
}

/* ---- MLX ---- */

static lb_status push_part(lb_conv *c, const lb_assembly *a, const lb_made_of *m, lb_str stem,
                           const char *part, lb_repack repack, lb_err *err) {
    lb_made made;
    lb_str name = lb_arena_printf(c->perm, "%.*s.%s", LB_FMT(stem), part);
    if (!name.ptr)
        return lb_fail(err, LB_E_NOMEM, "out of memory for names");
    LB_TRY(lb_assembly_repack(a, m, repack, UINT64_MAX, &made, err));
    lb_out_tensor out = {.name = name,
                         .dtype = lb_repack_dtype(repack),
                         .segments = made.segments,
                         .n_segments = made.n_segments,
                         .joint =
                             repack != LB_REPACK_AFFINE_BIASES && repack != LB_REPACK_MXFP4_SCALES};
    LB_TRY(lb_conv_shape(c, m->first, &made.shape, &out.shape, err));
    return lb_conv_push(c, &out, err);
}

static lb_status note_kept(lb_conv *c, lb_str stem, u32 form, lb_err *err) {
    lb_conv_codes *k = &c->codes;
    if (k->n == k->cap) {
        u64 cap = k->cap ? 2 * k->cap : 256;
        lb_conv_kept *p = lb_realloc(k->list, (size_t)cap * sizeof *p);
        if (!p)
            return lb_fail(err, LB_E_NOMEM, "out of memory for the list of tensors");
        k->list = p;
        k->cap = cap;
    }
    k->list[k->n++] = (lb_conv_kept){stem, form};
    return LB_OK;
}

lb_status lb_conv_push_codes(lb_conv *c, const lb_assembly *a, const lb_made_of *m, u32 form,
                             lb_err *err) {
    bool affine = form != MXFP4;
    u64 before = c->model.n_parameters, rows, cols;
    lb_str stem = lb_arena_str(c->perm, lb_str_sub(m->name, 0, m->name.len - 7));
    if (!stem.ptr)
        return lb_fail(err, LB_E_NOMEM, "out of memory for names");
    if (affine)
        LB_TRY(push_part(c, a, m, stem, "biases", LB_REPACK_AFFINE_BIASES, err));
    LB_TRY(push_part(c, a, m, stem, "scales",
                     affine ? LB_REPACK_AFFINE_SCALES : LB_REPACK_MXFP4_SCALES, err));
    lb_shape_matrix(c->model.tensors[c->model.n_tensors - 1].shape, &rows, &cols);
    LB_TRY(push_part(c, a, m, stem, "weight", forms[form].mlx, err));
    c->model.n_parameters = before + rows * cols * 32;
    lb_dtype stored = m->first->dtype;
    for (u32 i = 1; i < m->n_ref; i++) /* parts of two kinds: not symmetric */
        if (c->canon.tensors[m->ref[i].tensor].dtype != stored)
            stored = lb_repack_dtype(forms[form].other);
    lb_conv_count_codes(c, stored);
    return note_kept(c, stem, form, err);
}

static lb_json *quantization_of(lb_arena *perm, u32 form) {
    const lb_enc enc = {.kind = forms[form].mode, .bits = forms[form].bits, .group_size = 32};
    return lb_mlx_enc_json(&enc, LB_MLX_SAID_ALL, perm);
}

lb_status lb_conv_codes_config(lb_conv *c, lb_json **out, lb_err *err) {
    u64 n[LB_LEN(forms)] = {0};
    u32 most = 0;
    *out = NULL;
    if (c->codes.n == 0)
        return LB_OK;
    for (u64 i = 0; i < c->codes.n; i++)
        n[c->codes.list[i].form]++;
    for (u32 f = 1; f < LB_LEN(forms); f++)
        most = n[f] > n[most] ? f : most;
    *out = quantization_of(c->perm, most);
    bool ok = *out != NULL;
    for (u64 i = 0; i < c->codes.n && ok; i++)
        if (c->codes.list[i].form != most)
            ok = lb_json_set(c->perm, *out, c->codes.list[i].stem.ptr,
                             quantization_of(c->perm, c->codes.list[i].form));
    return ok ? LB_OK : lb_fail(err, LB_E_NOMEM, "out of memory for config.json");
}

/* The symmetric types of which all codes of their width are. */
lb_status lb_conv_codes_record(lb_conv *c, lb_err *err) {
    lb_buf b = {0};
    for (u32 f = MXFP4 + 1; f < LB_LEN(forms); f++) {
        lb_dtype plain = lb_repack_dtype(forms[f].plain);
        u64 all = 0;
        for (u64 i = 0; i < c->codes.n; i++)
            all += c->codes.list[i].form == f;
        if (all && c->codes.n_of[plain] == all)
            lb_buf_printf(&b, "%s%s", b.len ? " " : "", lb_dtype_get(plain)->name);
    }
    c->model.codes = b.len ? lb_arena_str(c->perm, lb_buf_str(&b)) : LB_STR_NONE;
    lb_status st = lb_buf_status(&b, err);
    lb_buf_deinit(&b);
    return st;
}

/* ---- GGUF ---- */

u32 lb_conv_codes_file_type(const lb_conv *c) {
    static const struct {
        lb_dtype dtype;
        u32 file_type; /* llama.h's LLAMA_FTYPE_MOSTLY_* */
    } types[] = {{LB_MXFP4, 38}, {LB_Q4_0, 2}, {LB_Q4_1, 3},
                 {LB_Q5_0, 8},   {LB_Q5_1, 9}, {LB_Q8_0, 7}};
    u32 best = UINT32_MAX;
    u64 n = 0;
    for (u32 i = 0; i < LB_LEN(types); i++)
        if (c->codes.n_of[types[i].dtype] > n) {
            n = c->codes.n_of[types[i].dtype];
            best = types[i].file_type;
        }
    return best;
}
