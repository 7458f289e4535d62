/* SPDX-License-Identifier: Apache-2.0 */
/* recipe.c: tensors in llama-quantize's order through the rules of recipe_tables.c.
 *
 * Some rules ask how many tensors of a kind came before: the order matters, and only tensors that
 * reach the rules are counted (not those that an option or an override has decided). */
#include "quant/recipe.h"
#include "quant/recipe_tables.h"
#include <stdlib.h>

/* ---- names of recipes and types ---- */

static const lb_recipe recipes[] = {
#define LB_CLASS_OF_PLAIN LB_RECIPE_PLAIN
#define LB_CLASS_OF_LOW LB_RECIPE_LOW
#define LB_CLASS_OF_COPY LB_RECIPE_COPY_ALL
#define LB_CLASS_OF_OURS LB_RECIPE_OURS
#define LB_RECIPE(id, name, alias, file_type, dtype, cls) \
    [LB_RECIPE_##id] = {LB_RECIPE_##id, name, alias, file_type, dtype, LB_CLASS_OF_##cls},
#include "quant/recipe.def"
#undef LB_RECIPE
};

const lb_recipe *lb_recipe_get(lb_recipe_id id) {
    LB_ASSERT((size_t)id < LB_LEN(recipes));
    return &recipes[id];
}

/* b is in lower case. */
static bool is_name(lb_str a, const char *b) {
    if (!b || a.len != strlen(b))
        return false;
    for (size_t i = 0; i < a.len; i++) {
        const char c = a.ptr[i];
        if ((c >= 'A' && c <= 'Z' ? (char)(c + 32) : c) != b[i])
            return false;
    }
    return true;
}

bool lb_recipe_find(lb_str name, lb_recipe_id *out) {
    u64 number = 0;
    const bool by_number = lb_str_to_u64(name, &number);
    for (u32 i = 0; i < LB_LEN(recipes); i++) {
        const lb_recipe *r = &recipes[i];
        if (by_number ? r->cls != LB_RECIPE_OURS && r->file_type == number
                      : is_name(name, r->name) || is_name(name, r->alias)) {
            *out = (lb_recipe_id)i;
            return true;
        }
    }
    return false;
}

u32 lb_recipe_file_type_of(lb_dtype t) {
    static const lb_recipe_id medium[] = {LB_RECIPE_Q3_K_M, LB_RECIPE_Q4_K_M, LB_RECIPE_Q5_K_M};
    for (u32 i = 0; i < LB_LEN(medium); i++)
        if (recipes[medium[i]].dtype == t)
            return recipes[medium[i]].file_type;
    if (t == LB_IQ2_S)
        return recipes[LB_RECIPE_IQ2_S].file_type;
    for (u32 i = 0; i < LB_LEN(recipes); i++)
        if (recipes[i].dtype == t && recipes[i].cls != LB_RECIPE_COPY_ALL && t != LB_MXFP4)
            return recipes[i].file_type;
    return recipes[LB_RECIPE_F32].file_type; /* as of all types that it does not list */
}

/* Types that values can be turned into (ggml_quantize_chunk). Q8_1 and Q8_K are of activations. */
static bool is_target(lb_dtype t) {
    const lb_dtype_info *d = lb_dtype_get(t);
    return d->cls == LB_CLASS_BLOCK ? t != LB_Q8_1 && t != LB_Q8_K
                                    : t == LB_F32 || t == LB_F16 || t == LB_BF16;
}

lb_status lb_recipe_type_find(lb_str name, lb_dtype *out, lb_err *err) {
    char list[512] = "";
    size_t n = 0;
    if (lb_dtype_find(name, out) && is_target(*out))
        return LB_OK;
    for (u32 t = 0; t < LB_DTYPE_COUNT; t++) {
        const char *one = lb_dtype_get((lb_dtype)t)->name;
        if (!is_target((lb_dtype)t) || n + strlen(one) + 2 > sizeof list)
            continue;
        if (n)
            list[n++] = ' ';
        memcpy(list + n, one, strlen(one) + 1);
        n += strlen(one);
    }
    return lb_fail(err, LB_E_USAGE, "'%.*s' is no type of matrices in GGUF: choose one of %s",
                   (int)LB_MIN(name.len, (size_t)64), name.ptr ? name.ptr : "", list);
}

/* ---- the model ---- */

/* A number, or the first of a list. */
static lb_status read_number(const lb_gguf_meta *meta, lb_str arch, const char *key, u64 *out,
                             lb_err *err) {
    const lb_gguf_kv *kv = lb_meta_find_arch(meta, arch, key);
    if (!kv)
        return LB_OK;
    const bool list = kv->type == LB_GGUF_ARRAY;
    if (list && !kv->n)
        return LB_OK;
    if (list ? lb_kv_elem_u64(kv, 0, out) : lb_kv_as_u64(kv, out))
        return LB_OK;
    return lb_fail(err, LB_E_FORMAT, "key '%.*s' is no number: the recipe asks for it",
                   LB_FMT(kv->key));
}

lb_status lb_recipe_model_from_meta(const lb_gguf_meta *meta, lb_recipe_model *out, lb_err *err) {
    *out = (lb_recipe_model){0};
    if (!lb_kv_as_str(lb_meta_find(meta, "general.architecture"), &out->arch))
        return lb_fail(err, LB_E_FORMAT, "the metadata name no general.architecture");
    const lb_recipe_arch *a = lb_recipe_arch_find(out->arch);
    u64 loops = 1;
    LB_TRY(read_number(meta, out->arch, "block_count", &out->n_layers, err));
    LB_TRY(read_number(meta, out->arch, "nextn_predict_layers", &out->n_mtp, err));
    LB_TRY(read_number(meta, out->arch, "attention.head_count", &out->n_head, err));
    out->n_head_kv = out->n_head;
    LB_TRY(read_number(meta, out->arch, "attention.head_count_kv", &out->n_head_kv, err));
    LB_TRY(read_number(meta, out->arch, "expert_count", &out->n_expert, err));
    if (a && a->loops)
        LB_TRY(read_number(meta, out->arch, a->loops, &loops, err));
    if (!lb_mul_u64(out->n_layers, loops, &out->n_layers) ||
        !lb_add_u64(out->n_layers, a ? a->more_layers : 0, &out->n_layers) ||
        out->n_layers > UINT32_MAX || out->n_mtp > out->n_layers)
        return lb_fail(err, LB_E_FORMAT, "the metadata count %llu layers, %llu of them more",
                       (unsigned long long)out->n_layers, (unsigned long long)out->n_mtp);
    return LB_OK;
}

/* ---- order: layer by layer, in each by name; what is in no layer comes first ---- */

/* As sscanf("blk.%d.") reads it. */
static bool layer_of(lb_str name, i64 *out) {
    size_t i = 4;
    i64 v = 0;
    if (!lb_str_starts(name, LB_STR("blk.")))
        return false;
    while (i < name.len && strchr(" \t\n\v\f\r", name.ptr[i]) && name.ptr[i])
        i++;
    const bool minus = i < name.len && name.ptr[i] == '-';
    if (i < name.len && (name.ptr[i] == '-' || name.ptr[i] == '+'))
        i++;
    const size_t digits = i;
    for (; i < name.len && name.ptr[i] >= '0' && name.ptr[i] <= '9'; i++)
        v = LB_MIN(v * 10 + (name.ptr[i] - '0'), INT32_MAX);
    if (i > digits)
        *out = minus ? -v : v;
    return i > digits;
}

typedef struct place {
    i64 layer;
    lb_str name;
    u32 i;
} place;

static int by_layer(const void *a, const void *b) {
    const place *x = a, *y = b;
    if (x->layer != y->layer)
        return x->layer < y->layer ? -1 : 1;
    return lb_str_cmp(x->name, y->name);
}

lb_status lb_recipe_order(u64 n, const lb_recipe_tensor *tensors, u32 *order, lb_arena *scratch,
                          lb_err *err) {
    place *p = lb_arena_new(scratch, place, n);
    if (!p && n)
        return lb_fail(err, LB_E_NOMEM, "out of memory for the order of %llu tensors",
                       (unsigned long long)n);
    for (u64 i = 0; i < n; i++) {
        p[i] = (place){-1, tensors[i].name, (u32)i};
        (void)layer_of(p[i].name, &p[i].layer);
    }
    if (n)
        qsort(p, n, sizeof *p, by_layer);
    for (u64 i = 0; i < n; i++)
        order[i] = p[i].i;
    return LB_OK;
}

/* ---- what is known ---- */

typedef struct chooser {
    const lb_recipe_job *job;
    const lb_recipe *recipe;
    u32 traits;     /* LB_IF_* of the architecture */
    u32 model;      /* and of the model and the options */
    bool tied;      /* no output matrix */
    u64 n_values;   /* tensors of LB_KIND_V in the file */
    u64 n_came[10]; /* tensors of each kind that the rules have seen */
} chooser;

static bool has(lb_str name, const char *text, bool whole) {
    size_t at;
    return whole ? lb_str_eq_c(name, text) : lb_str_find(name, lb_str_c(text), &at);
}

static u32 kind_of(lb_str name) {
    for (u32 i = 0; i < lb_recipe_n_kinds; i++)
        if (has(name, lb_recipe_kinds[i].text, lb_recipe_kinds[i].whole))
            return lb_recipe_kinds[i].kind;
    return LB_KIND_OTHER;
}

static bool is_held(const chooser *c, lb_str name, lb_recipe_hold hold) {
    for (u32 i = 0; i < lb_recipe_n_names; i++) {
        const lb_recipe_name *r = &lb_recipe_names[i];
        if (r->hold == hold && (!r->traits || (r->traits & c->traits)) &&
            has(name, r->text, r->whole))
            return true;
    }
    return false;
}

/* The dimension `from_last` before the last; 1 where there is none. */
static u64 dim_at(const lb_shape *s, u32 from_last) {
    return from_last < s->rank ? s->dim[s->rank - 1 - from_last] : 1;
}

static bool is_matrix(const lb_shape *s) {
    for (u32 i = 1; i < s->rank; i++)
        if (dim_at(s, i) != 1)
            return true;
    return false;
}

/* Ends in "weight"; llama-quantize's way to ask that is also true of every name of five bytes. */
static bool is_weight(lb_str name) {
    size_t at;
    return lb_str_ends(name, LB_STR("weight")) ||
           (name.len == 5 && !lb_str_find(name, LB_STR("weight"), &at));
}

static bool is_quantized(const chooser *c, const lb_recipe_tensor *t) {
    const lb_recipe_opts *o = c->job->opts;
    return c->recipe->cls != LB_RECIPE_COPY_ALL && is_matrix(&t->shape) && is_weight(t->name) &&
           !(o->keep_output && lb_str_eq_c(t->name, "output.weight")) &&
           !is_held(c, t->name, LB_HOLD_KEEP);
}

static void look_at_model(chooser *c) {
    const lb_recipe_model *m = c->job->model;
    const lb_recipe_arch *a = lb_recipe_arch_find(m->arch);
    c->recipe = lb_recipe_get(c->job->opts->recipe);
    c->traits = a ? a->traits : 0;
    c->model = c->traits;
    if (a && a->n_layers_70b && m->n_layers - LB_MIN(m->n_mtp, m->n_layers) == a->n_layers_70b &&
        !(a->only_grouped && (m->n_head == m->n_head_kv || m->n_expert == 8)))
        c->model |= LB_IF_70B;
    if (m->n_head_kv && m->n_head / m->n_head_kv >= 4)
        c->model |= LB_IF_GQA;
    if (m->n_expert >= 4)
        c->model |= LB_IF_EXPERTS;
    if (m->n_expert == 8)
        c->model |= LB_IF_EIGHT;
    if (c->job->opts->importance)
        c->model |= LB_IF_WEIGHTED;
    c->tied = true;
    for (u64 i = 0; i < c->job->n; i++) {
        const u32 kind = kind_of(c->job->tensors[i].name);
        c->n_values += kind == LB_KIND_V;
        c->tied = c->tied && kind != LB_KIND_OUTPUT;
    }
}

/* Place i of n that count from the first to the last layer. */
static u32 place_facts(u64 i, u64 n) {
    u32 f = 0;
    const bool first = i < n / 8, last = i >= 7 * n / 8;
    if (i < 2)
        f |= LB_IF_FIRST_2;
    if (i < 4)
        f |= LB_IF_FIRST_4;
    if (first)
        f |= LB_IF_EIGHTH;
    if (i < n / 16)
        f |= LB_IF_SIXTEENTH;
    if (!first && !last)
        f |= LB_IF_MIDDLE;
    if (first || last || (i - n / 8) % 3 == 2)
        f |= LB_IF_CHOSEN;
    return f;
}

static u64 *count_of(chooser *c, u32 kind) {
    u32 bit = 0;
    while (kind >> (bit + 1))
        bit++;
    return &c->n_came[bit];
}

/* The place of a tensor of the feed-forward: with experts by its layer's number, since a layer has
 * several; else by those that came before. */
static lb_status place_of(chooser *c, const lb_recipe_tensor *t, u32 kind, u64 *out, lb_err *err) {
    const lb_recipe_model *m = c->job->model;
    i64 layer = 0;
    *out = (*count_of(c, kind))++;
    if (!(kind & LB_KIND_FFN) || m->n_expert <= 1 || c->recipe->cls == LB_RECIPE_LOW ||
        c->recipe->id == LB_RECIPE_MXFP4_MOE)
        return LB_OK;
    if (!layer_of(t->name, &layer) || layer < 0 || (u64)layer >= m->n_layers)
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "tensor '%.*s' is in none of the %llu layers: the recipe %s needs its place",
                       LB_FMT(t->name), (unsigned long long)m->n_layers, c->recipe->name);
    *out = (u64)layer;
    return LB_OK;
}

/* ---- rules ---- */

static bool fits(const chooser *c, const lb_recipe_rule *r, u32 kind, u32 facts) {
    return (r->recipes >> c->recipe->id & 1) && (r->kinds & kind) && (r->all & facts) == r->all &&
           !(r->none & facts);
}

static lb_status by_rules(chooser *c, const lb_recipe_tensor *t, lb_recipe_choice *out,
                          lb_err *err) {
    const u64 n_cols = dim_at(&t->shape, 0);
    u32 kind = kind_of(t->name), facts = c->model;
    u64 at = 0;
    if (is_held(c, t->name, LB_HOLD_Q8)) {
        *out = (lb_recipe_choice){.dtype = LB_Q8_0, .why = LB_WHY_RULE};
        return LB_OK;
    }
    if (kind == LB_KIND_EMBD && c->tied)
        kind = LB_KIND_OUTPUT;
    if (kind == LB_KIND_OUTPUT && c->job->opts->output) {
        *out = (lb_recipe_choice){.dtype = *c->job->opts->output, .why = LB_WHY_OPTION};
        return LB_OK;
    }
    LB_TRY(place_of(c, t, kind, &at, err));
    facts |= place_facts(at, kind == LB_KIND_V ? c->n_values : c->job->model->n_layers);
    if (dim_at(&t->shape, 2) > 1)
        facts |= LB_IF_STACKED;
    if (n_cols % lb_dtype_get(c->recipe->dtype)->block_elems)
        facts |= LB_IF_MISFIT;
    for (u32 i = 0; i < lb_recipe_n_rules; i++) {
        if (fits(c, &lb_recipe_rules[i], kind, facts)) {
            *out = (lb_recipe_choice){.dtype = lb_recipe_rules[i].dtype, .why = LB_WHY_RULE};
            break;
        }
    }
    for (u32 i = 0; i < lb_recipe_n_raises; i++) {
        const lb_recipe_raise *r = &lb_recipe_raises[i];
        if (out->dtype == r->from && fits(c, &r->rule, kind, facts))
            *out = (lb_recipe_choice){.dtype = r->rule.dtype, .why = LB_WHY_RULE};
    }
    return LB_OK;
}

/* Rows that are not whole blocks: the next type whose blocks are smaller, else F16. */
static lb_status fit_rows(const lb_recipe_tensor *t, lb_recipe_choice *ch, lb_err *err) {
    const u64 n_cols = dim_at(&t->shape, 0);
    const lb_dtype_info *d = lb_dtype_get(ch->dtype);
    if (n_cols % d->block_elems == 0)
        return LB_OK;
    if (!lb_recipe_fallback(ch->dtype, &ch->dtype))
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "tensor '%.*s': rows of %llu are no multiple of %u, as %s needs, and no "
                       "other type stands in for it: give it one by an override",
                       LB_FMT(t->name), (unsigned long long)n_cols, d->block_elems, d->name);
    if (n_cols % lb_dtype_get(ch->dtype)->block_elems)
        ch->dtype = LB_F16;
    return LB_OK;
}

/* Options that name a type are taken as they are. */
static lb_status by_option(const lb_recipe_tensor *t, const char *what, lb_dtype dtype,
                           lb_recipe_choice *out, lb_err *err) {
    const lb_dtype_info *d = lb_dtype_get(dtype);
    *out = (lb_recipe_choice){.dtype = dtype, .wanted = dtype, .why = LB_WHY_OPTION};
    if (dim_at(&t->shape, 0) % d->block_elems == 0)
        return LB_OK;
    return lb_fail(err, LB_E_UNSUPPORTED,
                   "tensor '%.*s': rows of %llu are no multiple of %u, as %s needs: choose another "
                   "type for the %s",
                   LB_FMT(t->name), (unsigned long long)dim_at(&t->shape, 0), d->block_elems,
                   d->name, what);
}

static lb_status choose(chooser *c, const lb_recipe_tensor *t, lb_recipe_choice *out, lb_err *err) {
    const lb_recipe_opts *o = c->job->opts;
    const u32 kind = kind_of(t->name);
    const lb_override *named = NULL;
    *out = (lb_recipe_choice){.dtype = t->stored, .wanted = t->stored, .why = LB_WHY_KEPT};
    if (!is_quantized(c, t))
        return LB_OK;
    LB_TRY(lb_override_find(o->overrides, t->name, &named, err));
    /* The embeddings of every layer follow the option unless an override names them. */
    if (o->embedding && kind == LB_KIND_EMBD &&
        !(named && lb_str_eq_c(t->name, "per_layer_token_embd.weight")))
        return by_option(t, "embedding", *o->embedding, out, err);
    if (o->output && kind == LB_KIND_OUTPUT)
        return by_option(t, "output", *o->output, out, err);
    *out = (lb_recipe_choice){.dtype = c->recipe->dtype, .why = LB_WHY_DEFAULT};
    if (lb_dtype_get(c->recipe->dtype)->cls == LB_CLASS_BLOCK) {
        if (named)
            *out = (lb_recipe_choice){.dtype = named->dtype, .why = LB_WHY_OVERRIDE};
        else if (!o->pure)
            LB_TRY(by_rules(c, t, out, err));
        out->wanted = out->dtype;
        return fit_rows(t, out, err);
    }
    out->wanted = out->dtype;
    return LB_OK;
}

/* tensor_requires_imatrix: such types are of no use without; what is looked up, or is the output,
 * has no weights in most files. */
static bool needs_importance(const lb_recipe *r, lb_str name, lb_dtype t) {
    if (kind_of(name) & (LB_KIND_EMBD | LB_KIND_OUTPUT))
        return false;
    switch (t) {
    case LB_IQ3_XXS:
    case LB_IQ2_XXS:
    case LB_IQ2_XS:
    case LB_IQ2_S:
    case LB_IQ1_M:
    case LB_IQ1_S:
        return true;
    case LB_Q2_K:
        return r->id == LB_RECIPE_Q2_K_S;
    default:
        return false;
    }
}

lb_status lb_recipe_choose(const lb_recipe_job *job, lb_recipe_choice *out, lb_arena *scratch,
                           lb_err *err) {
    chooser c = {.job = job};
    u32 *order = lb_arena_new(scratch, u32, job->n);
    if (!order && job->n)
        return lb_fail(err, LB_E_NOMEM, "out of memory for the order of %llu tensors",
                       (unsigned long long)job->n);
    for (u64 i = 0; job->opts->listed && i < job->n; i++)
        order[i] = (u32)i;
    if (!job->opts->listed)
        LB_TRY(lb_recipe_order(job->n, job->tensors, order, scratch, err));
    look_at_model(&c);
    for (u64 i = 0; i < job->n; i++) {
        const lb_recipe_tensor *t = &job->tensors[order[i]];
        lb_recipe_choice *ch = &out[order[i]];
        LB_TRY(choose(&c, t, ch, err));
        ch->needs_importance =
            ch->why != LB_WHY_KEPT && needs_importance(c.recipe, t->name, ch->dtype);
    }
    return LB_OK;
}

/* ---- what carrying it out asks for ---- */

/* ggml's quantizers of these cannot do without, whatever the tensor
 * (ggml_quantize_requires_imatrix).
 */
static bool cannot_do_without(lb_dtype t) {
    return t == LB_IQ2_XXS || t == LB_IQ2_XS || t == LB_IQ1_S;
}

static lb_status check(const lb_recipe_opts *o, const lb_recipe_tensor *t,
                       const lb_recipe_choice *ch, lb_err *err) {
    const lb_dtype_info *from = lb_dtype_get(t->stored), *to = lb_dtype_get(ch->dtype);
    const bool changes = t->stored != ch->dtype;
    const bool needs = ch->needs_importance || (changes && cannot_do_without(ch->dtype));
    if (needs && !o->importance)
        return lb_fail(err, LB_E_USAGE,
                       "tensor '%.*s' would become %s, which needs an importance file: give one "
                       "with --imatrix, or choose another type",
                       LB_FMT(t->name), to->name);
    if (!changes)
        return LB_OK;
    if (needs && !t->has_importance)
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "tensor '%.*s' would become %s, which needs importance, and the importance "
                       "file has none for it: choose another type for it by an override",
                       LB_FMT(t->name), to->name);
    if (from->cls == LB_CLASS_BLOCK && !o->requantize)
        return lb_fail(err, LB_E_USAGE,
                       "tensor '%.*s' is quantized already (%s): quantizing it again to %s loses "
                       "more; --allow-requantize does it",
                       LB_FMT(t->name), from->name, to->name);
    if (from->cls != LB_CLASS_BLOCK && from->cls != LB_CLASS_FLOAT)
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "tensor '%.*s' has the type %s: it holds no values that %s could hold",
                       LB_FMT(t->name), from->name, to->name);
    return LB_OK;
}

lb_status lb_recipe_check(const lb_recipe_job *job, const lb_recipe_choice *choices, lb_err *err) {
    for (u64 i = 0; i < job->n; i++)
        LB_TRY(check(job->opts, &job->tensors[i], &choices[i], err));
    return LB_OK;
}

lb_status lb_recipe_check_overrides(const lb_recipe_job *job, lb_err *err) {
    const lb_overrides *o = job->opts->overrides;
    for (const lb_override *v = o ? o->first : NULL; v; v = v->next) {
        bool found = false;
        for (u64 i = 0; i < job->n && !found; i++)
            LB_TRY(lb_override_matches(o, v, job->tensors[i].name, &found, err));
        if (!found)
            return lb_fail(
                err, LB_E_USAGE, "override \"%.*s\": the pattern is in no tensor's name, as '%.*s'",
                LB_FMT(v->pattern), LB_FMT(job->n ? job->tensors[job->n - 1].name : LB_STR("")));
    }
    return LB_OK;
}
