/* SPDX-License-Identifier: Apache-2.0 */
/* mlx.c: the quantization object of an MLX config, and packed tensors to weights.
 *
 * A packed row of P u32 words with S scales holds 32 P / bits values in groups of 32 P / (bits S):
 * only the product bits x group can be read from the tensors, so the config decides, and the
 * tensors must agree with it. A path that the config does not name takes the default if that fits,
 * else what the shapes leave possible if it is one thing (mlx-lm asks the model's code there; we
 * have none). */
#include "format/mlx.h"

#include <stdio.h>

typedef unsigned long long ull;

/* ---- modes ---- */

#define ROW_BITS 32 /* of a packed word */

typedef struct mode_info {
    const char *name;
    lb_enc_kind kind;
    u32 bits, group; /* defaults: mlx nn/layers/quantized.py _defaults_for_mode */
} mode_info;

static const mode_info modes[] = {
    {"affine", LB_ENC_MLX_AFFINE, 4, 64},
    {"mxfp4", LB_ENC_MLX_MXFP4, 4, 32},
    {"mxfp8", LB_ENC_MLX_MXFP8, 8, 32},
    {"nvfp4", LB_ENC_MLX_NVFP4, 4, 16},
};

static const u32 affine_bits[] = {1, 2, 3, 4, 5, 6, 8};
static const u32 affine_groups[] = {32, 64, 128};

const char *lb_mlx_mode_name(lb_enc_kind kind) {
    for (size_t i = 0; i < LB_LEN(modes); i++)
        if (modes[i].kind == kind)
            return modes[i].name;
    return NULL;
}

static bool contains(const u32 *list, size_t n, u64 v) {
    for (size_t i = 0; i < n; i++)
        if (list[i] == v)
            return true;
    return false;
}

static bool enc_is_known(const mode_info *m, u64 bits, u64 group) {
    if (m->kind == LB_ENC_MLX_AFFINE)
        return contains(affine_bits, LB_LEN(affine_bits), bits) &&
               contains(affine_groups, LB_LEN(affine_groups), group);
    return bits == m->bits && group == m->group;
}

lb_enc lb_mlx_enc_default(lb_enc_kind kind) {
    const mode_info *m = modes;
    for (size_t i = 0; i < LB_LEN(modes); i++)
        m = modes[i].kind == kind ? &modes[i] : m;
    LB_ASSERT(m->kind == kind);
    return (lb_enc){.kind = kind, .bits = m->bits, .group_size = m->group};
}

bool lb_mlx_enc_exists(const lb_enc *enc) {
    for (size_t i = 0; i < LB_LEN(modes); i++)
        if (modes[i].kind == enc->kind)
            return enc_is_known(&modes[i], enc->bits, enc->group_size);
    return false;
}

lb_json *lb_mlx_enc_json(const lb_enc *enc, lb_mlx_said said, lb_arena *perm) {
    lb_json *o = lb_json_new_object(perm);
    lb_json *group = said == LB_MLX_SAID_NO_GROUP ? lb_json_new_null(perm)
                                                  : lb_json_new_u64(perm, enc->group_size);
    const bool ok = o && lb_json_set(perm, o, "group_size", group) &&
                    lb_json_set(perm, o, "bits", lb_json_new_u64(perm, enc->bits)) &&
                    (said == LB_MLX_SAID_NO_MODE ||
                     lb_json_set(perm, o, "mode",
                                 lb_json_new_str(perm, lb_str_c(lb_mlx_mode_name(enc->kind)))));
    return ok ? o : NULL;
}

/* ---- the config ---- */

/* A whole number, or the default where the key is absent or null. */
static lb_status number(const lb_json *object, const char *key, u64 preset, const char *where,
                        u64 *out, lb_err *err) {
    const lb_json *v = lb_json_get(object, key);
    *out = preset;
    if (!v || v->type == LB_JNULL || lb_json_as_u64(v, out))
        return LB_OK;
    return lb_fail(err, LB_E_FORMAT, "config.json: quantization: %s of %s is not a whole number",
                   key, where);
}

static lb_status parse_enc(const lb_json *object, const char *where, lb_enc *enc, lb_err *err) {
    const lb_json *v = lb_json_get(object, "mode");
    const mode_info *m = NULL;
    lb_str mode = LB_STR("affine");
    u64 bits, group;
    if (v && v->type != LB_JNULL && !lb_json_as_str(v, &mode))
        return lb_fail(err, LB_E_FORMAT, "config.json: quantization: mode of %s is not a string",
                       where);
    for (size_t i = 0; i < LB_LEN(modes) && !m; i++)
        if (lb_str_eq_c(mode, modes[i].name))
            m = &modes[i];
    if (!m)
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "config.json: quantization: mode '%.*s' of %s is not supported",
                       LB_FMT(mode), where);
    LB_TRY(number(object, "bits", m->bits, where, &bits, err));
    LB_TRY(number(object, "group_size", m->group, where, &group, err));
    if (!enc_is_known(m, bits, group))
        return lb_fail(
            err, LB_E_UNSUPPORTED,
            "config.json: quantization: %s with %llu bits in groups of %llu (%s) does not "
            "exist in MLX",
            m->name, (ull)bits, (ull)group, where);
    *enc = (lb_enc){.kind = m->kind, .bits = (u32)bits, .group_size = (u32)group};
    return LB_OK;
}

/* MLX's form: an object that gives bits, group size or mode and no method of other tools. */
static const lb_json *mlx_form(const lb_json *v) {
    if (!v || v->type != LB_JOBJECT || lb_json_get(v, "quant_method"))
        return NULL;
    return lb_json_get(v, "bits") || lb_json_get(v, "group_size") || lb_json_get(v, "mode") ? v
                                                                                            : NULL;
}

static const lb_json *find_object(const lb_json *config) {
    static const char *const places[] = {"quantization", "quantization_config",
                                         "text_config.quantization",
                                         "text_config.quantization_config"};
    for (size_t i = 0; i < LB_LEN(places); i++) {
        const lb_json *v = mlx_form(lb_json_path(config, places[i]));
        if (v)
            return v;
    }
    return NULL;
}

static lb_status parse_entry(const lb_json *v, lb_arena *perm, lb_mlx_quant *q, lb_err *err) {
    lb_mlx_entry *e = &q->entries[q->n_entries];
    e->path = lb_arena_str(perm, v->key);
    if (!e->path.ptr)
        return lb_fail(err, LB_E_NOMEM, "config.json: out of memory");
    if (v->type == LB_JBOOL) {
        e->quantized = v->truth;
        e->enc = q->enc;
    } else {
        e->quantized = true;
        LB_TRY(parse_enc(v, e->path.ptr, &e->enc, err));
        lb_json_as_bool(lb_json_get(v, "global_scale"), &e->global_scale);
    }
    LB_TRY(lb_map_put(&q->by_path, e->path, q->n_entries, NULL, err));
    q->n_entries++;
    return LB_OK;
}

lb_status lb_mlx_quant_parse(const lb_json *config, lb_arena *perm, lb_mlx_quant *q, lb_err *err) {
    const lb_json *object = find_object(config);
    *q = (lb_mlx_quant){0};
    if (!object)
        return LB_OK;
    LB_TRY(parse_enc(object, "all layers", &q->enc, err));
    q->entries = lb_arena_new(perm, lb_mlx_entry, object->n);
    if (!q->entries)
        return lb_fail(err, LB_E_NOMEM, "config.json: out of memory");
    for (const lb_json *v = object->first; v; v = v->next)
        if (v->type == LB_JOBJECT || v->type == LB_JBOOL)
            LB_TRY(parse_entry(v, perm, q, err));
    q->present = true;
    return LB_OK;
}

void lb_mlx_quant_deinit(lb_mlx_quant *q) {
    lb_map_deinit(&q->by_path);
    *q = (lb_mlx_quant){0};
}

/* ---- finding companions ---- */

typedef struct names {
    const lb_source *s;
    lb_buf buf;
} names;

static lb_str strip(lb_str name, lb_str suffix) {
    return lb_str_sub(name, 0, name.len - suffix.len);
}

/* The tensor "<path><suffix>"; *out is NULL if absent. */
static lb_status find(names *n, lb_str path, const char *suffix, const lb_tensor **out,
                      lb_err *err) {
    lb_buf_reset(&n->buf);
    lb_buf_put_str(&n->buf, path);
    lb_buf_put_c(&n->buf, suffix);
    LB_TRY(lb_buf_status(&n->buf, err));
    *out = lb_source_tensor(n->s, lb_buf_str(&n->buf));
    return LB_OK;
}

/* Whether "<path>.weight" is packed: u32 with scales beside it. */
static lb_status path_is_packed(names *n, lb_str path, bool *out, lb_err *err) {
    const lb_tensor *weight, *scales = NULL;
    LB_TRY(find(n, path, ".weight", &weight, err));
    if (weight && weight->dtype == LB_U32)
        LB_TRY(find(n, path, ".scales", &scales, err));
    *out = scales != NULL;
    return LB_OK;
}

static lb_status is_companion(names *n, const lb_tensor *t, bool *out, lb_err *err) {
    static const char *const suffixes[] = {".scales", ".biases", ".global_scale"};
    *out = false;
    for (size_t i = 0; i < LB_LEN(suffixes); i++) {
        lb_str suffix = lb_str_c(suffixes[i]);
        if (lb_str_ends(t->name, suffix))
            return path_is_packed(n, strip(t->name, suffix), out, err);
    }
    return LB_OK;
}

lb_status lb_mlx_is_packed(const lb_source *s, bool *out, lb_err *err) {
    names n = {.s = s};
    lb_status st = LB_OK;
    *out = false;
    for (u64 i = 0; st == LB_OK && i < s->n_tensors && !*out; i++) {
        const lb_tensor *t = &s->tensors[i];
        if (t->dtype == LB_U32 && lb_str_ends(t->name, LB_STR(".weight")))
            st = path_is_packed(&n, strip(t->name, LB_STR(".weight")), out, err);
    }
    lb_buf_deinit(&n.buf);
    return st;
}

/* ---- one packed weight ---- */

typedef struct packed {
    lb_str path;
    const lb_tensor *weight, *scales, *biases, *global;
    const lb_mlx_entry *entry; /* NULL: the config does not name the path */
    lb_enc enc;
} packed;

static lb_status shapes_disagree(const packed *p, const lb_tensor *other, const char *why,
                                 lb_err *err) {
    char a[LB_SHAPE_TEXT], b[LB_SHAPE_TEXT];
    return lb_fail(err, LB_E_FORMAT, "tensor '%.*s' %s %s does not fit '%.*s' %s %s: %s",
                   LB_FMT(other->name), lb_dtype_get(other->dtype)->name,
                   lb_shape_text(&other->shape, a), LB_FMT(p->weight->name),
                   lb_dtype_get(p->weight->dtype)->name, lb_shape_text(&p->weight->shape, b), why);
}

static bool is_float(lb_dtype t) {
    return t == LB_F16 || t == LB_BF16 || t == LB_F32;
}

/* bits x group as the shapes have it: 32 P / S; 0 if they fit nothing. */
static u64 bits_by_group(const packed *p) {
    u32 last = p->weight->shape.rank - 1;
    u64 words = p->weight->shape.dim[last], scales = p->scales->shape.dim[last], total = 0;
    if (!lb_mul_u64(words, ROW_BITS, &total) || scales == 0 || total % scales != 0)
        return 0;
    return total / scales;
}

static bool fits(const packed *p, lb_enc enc) {
    bool affine = enc.kind == LB_ENC_MLX_AFFINE;
    return bits_by_group(p) == (u64)enc.bits * enc.group_size &&
           (affine ? is_float(p->scales->dtype) : p->scales->dtype == LB_U8);
}

/* Which encoding the shapes and the type of the scales leave possible. */
static u32 guess(const packed *p, lb_enc *enc) {
    u32 n = 0;
    for (size_t m = 1; m < LB_LEN(modes); m++) {
        lb_enc e = {.kind = modes[m].kind, .bits = modes[m].bits, .group_size = modes[m].group};
        if (fits(p, e) && n++ == 0)
            *enc = e;
    }
    for (size_t i = 0; i < LB_LEN(affine_bits); i++)
        for (size_t j = 0; j < LB_LEN(affine_groups); j++) {
            lb_enc e = {
                .kind = LB_ENC_MLX_AFFINE, .bits = affine_bits[i], .group_size = affine_groups[j]};
            if (fits(p, e) && n++ == 0)
                *enc = e;
        }
    return n;
}

static lb_status choose(packed *p, const lb_mlx_quant *q, lb_err *err) {
    char want[80];
    p->enc = p->entry ? p->entry->enc : q->enc;
    if (fits(p, p->enc))
        return LB_OK;
    if (!p->entry) {
        u32 n = guess(p, &p->enc);
        if (n == 1)
            return LB_OK;
        if (n > 1)
            return shapes_disagree(
                p, p->scales,
                "config.json does not name this layer, the default does not fit, and "
                "more than one width does",
                err);
        p->enc = q->enc;
    }
    snprintf(want, sizeof want, "config.json says %s, %u bits, group %u",
             lb_mlx_mode_name(p->enc.kind), p->enc.bits, p->enc.group_size);
    return shapes_disagree(p, p->scales, want, err);
}

static bool leading_dims_eq(const lb_shape *a, const lb_shape *b) {
    return a->rank == b->rank && memcmp(a->dim, b->dim, (a->rank - 1) * sizeof a->dim[0]) == 0;
}

/* One value, or one a matrix of a stack. */
static bool global_fits(const packed *p) {
    const lb_shape *w = &p->weight->shape, *g = &p->global->shape;
    if (p->global->dtype != LB_F32)
        return false;
    return p->global->n_elems == 1 ||
           (g->rank == w->rank - 2 && memcmp(g->dim, w->dim, g->rank * sizeof g->dim[0]) == 0);
}

static lb_status check_companions(const packed *p, lb_err *err) {
    bool affine = p->enc.kind == LB_ENC_MLX_AFFINE;
    if (affine && !p->biases)
        return lb_fail(err, LB_E_FORMAT, "tensor '%.*s.biases' is missing: affine weights need it",
                       LB_FMT(p->path));
    if (!affine && p->biases)
        return shapes_disagree(p, p->biases, "only affine weights have biases", err);
    if (affine && (p->biases->dtype != p->scales->dtype ||
                   !lb_shape_eq(&p->biases->shape, &p->scales->shape)))
        return shapes_disagree(p, p->biases, "not the type and shape of the scales", err);
    if (p->global && p->enc.kind != LB_ENC_MLX_NVFP4)
        return shapes_disagree(p, p->global, "only nvfp4 weights have a global scale", err);
    if (p->global && !global_fits(p))
        return shapes_disagree(p, p->global, "not f32 with one value a matrix", err);
    if (!p->global && p->entry && p->entry->global_scale)
        return lb_fail(err, LB_E_FORMAT,
                       "tensor '%.*s.global_scale' is missing: config.json asks for it",
                       LB_FMT(p->path));
    return LB_OK;
}

static lb_status check_packed(packed *p, const lb_mlx_quant *q, lb_err *err) {
    if (p->entry && !p->entry->quantized)
        return lb_fail(err, LB_E_FORMAT,
                       "tensor '%.*s' is packed, but config.json says false for this layer",
                       LB_FMT(p->weight->name));
    if (p->weight->shape.rank < 2 || !leading_dims_eq(&p->weight->shape, &p->scales->shape))
        return shapes_disagree(p, p->scales,
                               "all dimensions but the last must be equal, and 2 or more", err);
    LB_TRY(choose(p, q, err));
    return check_companions(p, err);
}

static u32 index_of(const lb_source *s, const lb_tensor *t) {
    return (u32)(t - s->tensors);
}

static lb_status add_packed(lb_source *s, const packed *p, lb_err *err) {
    lb_weight w = {.name = p->weight->name, .shape = p->weight->shape, .enc = p->enc};
    u32 last = w.shape.rank - 1;
    w.shape.dim[last] = w.shape.dim[last] * ROW_BITS / p->enc.bits; /* did not overflow in fits() */
    w.part[w.n_parts++] = index_of(s, p->weight);
    w.part[w.n_parts++] = index_of(s, p->scales);
    if (p->biases)
        w.part[w.n_parts++] = index_of(s, p->biases);
    if (p->global)
        w.part[w.n_parts++] = index_of(s, p->global);
    return lb_source_add_weight(s, &w, err);
}

/* ---- all weights ---- */

/* A float `<path>.weight`: the config must not call it quantized. */
static lb_status check_unpacked(names *n, const lb_mlx_quant *q, const packed *p, lb_err *err) {
    if (p->entry && p->entry->quantized && p->weight->shape.rank >= 2)
        return lb_fail(err, LB_E_FORMAT,
                       "tensor '%.*s' is %s, but config.json says it is quantized",
                       LB_FMT(p->weight->name), lb_dtype_get(p->weight->dtype)->name);
    const lb_tensor *scales = NULL;
    if (q->present)
        LB_TRY(find(n, p->path, ".scales", &scales, err));
    if (scales)
        return shapes_disagree(p, scales, "scales belong to a packed u32 weight", err);
    return LB_OK;
}

static lb_status add_weight(lb_source *s, names *n, const lb_mlx_quant *q, const lb_tensor *t,
                            lb_err *err) {
    packed p = {.path = strip(t->name, LB_STR(".weight")), .weight = t};
    u64 index;
    if (lb_map_find(&q->by_path, p.path, &index))
        p.entry = &q->entries[index];
    if (t->dtype != LB_U32) {
        LB_TRY(check_unpacked(n, q, &p, err));
        return lb_source_add_plain(s, index_of(s, t), err);
    }
    LB_TRY(find(n, p.path, ".scales", &p.scales, err));
    if (!p.scales)
        return lb_fail(err, LB_E_FORMAT,
                       "tensor '%.*s' is packed (u32), but '%.*s.scales' is missing",
                       LB_FMT(t->name), LB_FMT(p.path));
    if (!q->present)
        return lb_fail(err, LB_E_FORMAT,
                       "tensor '%.*s' is packed (u32 with scales), but config.json has no "
                       "\"quantization\" that says how",
                       LB_FMT(t->name));
    LB_TRY(find(n, p.path, ".biases", &p.biases, err));
    LB_TRY(find(n, p.path, ".global_scale", &p.global, err));
    LB_TRY(check_packed(&p, q, err));
    return add_packed(s, &p, err);
}

lb_status lb_mlx_weights(lb_source *s, const lb_mlx_quant *q, lb_err *err) {
    names n = {.s = s};
    lb_status st = LB_OK;
    if (s->n_tensors > UINT32_MAX)
        return lb_fail(err, LB_E_LIMIT, "%llu tensors are more than a source holds",
                       (ull)s->n_tensors);
    for (u64 i = 0; i < s->n_tensors; i++) {
        const lb_tensor *t = &s->tensors[i];
        bool companion, is_weight = lb_str_ends(t->name, LB_STR(".weight"));
        LB_TRY_DONE(st, is_companion(&n, t, &companion, err));
        if (companion)
            continue;
        LB_TRY_DONE(st, is_weight ? add_weight(s, &n, q, t, err) : lb_source_add_plain(s, i, err));
    }
done:
    lb_buf_deinit(&n.buf);
    return st;
}
