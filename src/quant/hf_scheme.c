/* SPDX-License-Identifier: Apache-2.0 */
/* hf_scheme.c: types, choices and names; what config.json says is in hf_config.c. */
#include "quant/hf_scheme.h"
#include <stdlib.h>

/* ---- types ---- */

static const struct named {
    const char *name;
    lb_dtype dtype;       /* not quantized */
    const char *scopes;   /* for messages */
    lb_quant_scope scope; /* the default */
    u32 group;
    bool groups, channel, tensor, asym; /* what transformers and vLLM both read */
} types[LB_HF_TYPE_COUNT] = {
    [LB_HF_FP8] = {"fp8", LB_F32, "channel or tensor", LB_SCOPE_CHANNEL, 0, false, true, true,
                   false},
    [LB_HF_FP8_BLOCK] = {"fp8-block", LB_F32, "none: its blocks are 128 x 128", LB_SCOPE_BLOCK, 128,
                         false, false, false, false},
    [LB_HF_W4A16] = {"w4a16", LB_F32, "32, 64, 128 or channel", LB_SCOPE_GROUP, 128, true, true,
                     false, true},
    [LB_HF_W8A8] = {"w8a8", LB_F32, "channel or tensor", LB_SCOPE_CHANNEL, 0, false, true, true,
                    false},
    [LB_HF_F32] = {.name = "f32", .dtype = LB_F32},
    [LB_HF_F16] = {.name = "f16", .dtype = LB_F16},
    [LB_HF_BF16] = {.name = "bf16", .dtype = LB_BF16},
};

#define BLOCK_ROWS 128 /* weight_block_size: what kernels are made for */

const char *lb_hf_type_at(u32 i) {
    return i < LB_HF_F32 ? types[i].name : NULL;
}

static lb_status find(lb_str name, u32 n, u32 *out, lb_err *err) {
    lb_buf list = {0};
    for (u32 i = 0; i < n; i++) {
        if (lb_str_eq_c(name, types[i].name)) {
            lb_buf_deinit(&list);
            *out = i;
            return LB_OK;
        }
        lb_buf_printf(&list, "%s%s", i ? " " : "", types[i].name);
    }
    lb_status st = lb_fail(
        err, LB_E_USAGE, "'%.*s' is no type of Hugging Face folders: choose one of %.*s",
        (int)LB_MIN(name.len, (size_t)64), name.ptr ? name.ptr : "", LB_FMT(lb_buf_str(&list)));
    lb_buf_deinit(&list);
    return st;
}

lb_status lb_hf_type_find(lb_str name, u32 *out, lb_err *err) {
    return find(name, LB_HF_TYPE_COUNT, out, err);
}

static bool takes_scope(const struct named *t, const lb_hf_ask *a) {
    switch (a->scope) {
    case LB_SCOPE_GROUP:
        return t->groups && (a->group == 32 || a->group == 64 || a->group == 128);
    case LB_SCOPE_CHANNEL:
        return t->channel;
    case LB_SCOPE_TENSOR:
        return t->tensor;
    default:
        return false;
    }
}

lb_status lb_hf_form_find(lb_str name, const lb_hf_ask *ask, lb_hf_form *out, lb_err *err) {
    u32 i;
    LB_TRY(find(name, LB_HF_F32, &i, err));
    const struct named *t = &types[i];
    if (ask->sym && ask->asym)
        return lb_fail(err, LB_E_USAGE, "--sym and --asym exclude each other");
    if (ask->asym && !t->asym)
        return lb_fail(err, LB_E_USAGE,
                       "%s has no zero points that transformers and vLLM read (--asym): w4a16 has",
                       t->name);
    if (ask->has_scope && !takes_scope(t, ask))
        return lb_fail(err, LB_E_USAGE,
                       "%s: transformers and vLLM do not read scales of this kind: --group-size %s",
                       t->name, t->scopes);
    *out = (lb_hf_form){
        .type = (lb_hf_type)i, .scope = t->scope, .group = t->group, .asym = ask->asym};
    if (ask->has_scope) {
        out->scope = ask->scope;
        out->group = ask->scope == LB_SCOPE_GROUP ? ask->group : 0;
    }
    return LB_OK;
}

lb_quant lb_hf_quant(const lb_hf_form *f, lb_dtype dtype) {
    static const lb_quant_kind kinds[] = {LB_QUANT_F8, LB_QUANT_FINE_F8, LB_QUANT_PACKED,
                                          LB_QUANT_I8};
    return (lb_quant){.kind = kinds[f->type],
                      .bits = f->type == LB_HF_W4A16 ? 4 : 8,
                      .group = f->group,
                      .band = f->type == LB_HF_FP8_BLOCK ? BLOCK_ROWS : 0,
                      .round = f->type == LB_HF_FP8_BLOCK ? LB_ROUND_NONE : lb_round_of(dtype),
                      .scope = f->scope,
                      .asym = f->asym};
}

/* ---- modules ---- */

static bool has(lb_str s, const char *text) {
    size_t at;
    return lb_str_find(s, lb_str_c(text), &at);
}

/* nn.Linear in the classes of transformers. */
static lb_hf_why of_role(lb_role role) {
    switch (role) {
    case LB_ROLE_OUTPUT:
        return LB_HF_WHY_HEAD;
    case LB_ROLE_FFN_ROUTER: /* and what decides how long a state is kept */
    case LB_ROLE_FFN_SHARED_ROUTER:
    case LB_ROLE_SSM_BETA_ALPHA:
    case LB_ROLE_SSM_BETA:
    case LB_ROLE_SSM_ALPHA:
    case LB_ROLE_LAYER_EMBD_PROJ:
        return LB_HF_WHY_ROUTER;
    case LB_ROLE_MTP:
        return LB_HF_WHY_BESIDE;
    case LB_ROLE_TOKEN_EMBD:
    case LB_ROLE_POS_EMBD:
    case LB_ROLE_LAYER_EMBD:
        return LB_HF_WHY_NO_MODULE;
    default:
        return lb_role_is_linear(role) ? LB_HF_WHY_DEFAULT : LB_HF_WHY_NO_MODULE;
    }
}

/* Of a model of no known family. */
static lb_hf_why of_name(lb_str path) {
    static const char *const beside[] = {"vis", "image", "audio", "speech", "mtp."};
    static const char *const routers[] = {"router", "gating"};
    static const char *const none[] = {"embed", "norm", "wte", "wpe", "conv"};
    static const char *const heads[] = {"lm_head", "embed_out", "score", "classifier"};
    for (size_t i = 0; i < LB_LEN(heads); i++)
        if (has(path, heads[i]))
            return LB_HF_WHY_HEAD;
    for (size_t i = 0; i < LB_LEN(none); i++)
        if (has(path, none[i]))
            return LB_HF_WHY_NO_MODULE;
    for (size_t i = 0; i < LB_LEN(beside); i++)
        if (has(path, beside[i]))
            return LB_HF_WHY_BESIDE;
    for (size_t i = 0; i < LB_LEN(routers); i++)
        if (has(path, routers[i]))
            return LB_HF_WHY_ROUTER;
    return lb_str_ends(path, LB_STR(".gate")) || lb_str_ends(path, LB_STR("expert_gate"))
               ? LB_HF_WHY_ROUTER
               : LB_HF_WHY_DEFAULT;
}

static bool is_float(lb_dtype t) {
    return t == LB_F32 || t == LB_F16 || t == LB_BF16;
}

lb_hf_why lb_hf_module_of(const lb_hf_job *j, const lb_hf_tensor *t, lb_hf_choice *out) {
    const lb_str suffix = LB_STR(".weight");
    lb_arch_match m;
    bool known = j->arch && lb_arch_find(j->arch, j->hp, LB_WORLD_HF, t->name, &m);
    bool beside = known && (m.extra != LB_EXTRA_NONE || m.mtp != LB_NO_INDEX);
    if (!is_float(t->stored))
        return LB_HF_WHY_NO_MODULE;
    if (t->shape.rank == 3 && known && lb_arch_is_stacked(m.row, LB_WORLD_HF) && !beside) {
        out->path = t->name;
        out->stack = true;
        if (of_role((lb_role)m.row->role) != LB_HF_WHY_DEFAULT)
            return LB_HF_WHY_NO_MODULE;
        return m.row->hf_relayout == LB_RL_TRANSPOSE || lb_arch_is_conv1d(m.row)
                   ? LB_HF_WHY_TURNED
                   : LB_HF_WHY_DEFAULT;
    }
    if (t->shape.rank != 2 || !lb_str_ends(t->name, suffix))
        return LB_HF_WHY_NO_MODULE;
    out->path = lb_str_sub(t->name, 0, t->name.len - suffix.len);
    if (beside || (j->arch && !known))
        return LB_HF_WHY_BESIDE;
    if (!known)
        return of_name(out->path);
    return lb_arch_is_conv1d(m.row) ? LB_HF_WHY_TURNED : of_role((lb_role)m.row->role);
}

/* ---- shapes ---- */

static bool fits(const lb_hf_form *f, const lb_shape *s) {
    u64 rows = s->dim[s->rank - 2], cols = s->dim[s->rank - 1];
    if (rows == 0 || cols == 0)
        return false;
    switch (f->type) {
    case LB_HF_FP8_BLOCK: /* transformers' dequantization divides by the grid of scales */
        return rows % BLOCK_ROWS == 0 && cols % f->group == 0;
    case LB_HF_W4A16: /* eight codes a word, and zero points */
        return cols % 8 == 0 && (f->scope != LB_SCOPE_GROUP || cols % f->group == 0) &&
               (!f->asym || rows % 8 == 0);
    default:
        return true;
    }
}

/* ---- what loaders fuse ---- */

/* vLLM's packed_modules_mapping: shards of one matrix have one type. */
static const char *const fused[][3] = {
    {"q_proj", "k_proj", "v_proj"},
    {"gate_proj", "up_proj", NULL},
    {"w1", "w3", NULL},
    {"q_a_proj", "kv_a_proj_with_mqa", NULL},
    {"in_proj_qkv", "in_proj_z", NULL},
};

typedef struct by_path {
    lb_str path;
    u64 i;
} by_path;

static int cmp_path(const void *a, const void *b) {
    return lb_str_cmp(((const by_path *)a)->path, ((const by_path *)b)->path);
}

/* The choice of parent.leaf; NULL: there is none. */
static lb_hf_choice *find_path(const by_path *list, u64 n, lb_hf_choice *choices, lb_str parent,
                               const char *leaf) {
    char text[512];
    if (parent.len + strlen(leaf) + 1 > sizeof text)
        return NULL;
    memcpy(text, parent.ptr, parent.len);
    memcpy(text + parent.len, leaf, strlen(leaf));
    by_path key = {.path = {text, parent.len + strlen(leaf)}};
    const by_path *x = n ? bsearch(&key, list, n, sizeof *list, cmp_path) : NULL;
    return x ? &choices[x->i] : NULL;
}

lb_str lb_hf_experts_of(lb_str path) {
    size_t at;
    return lb_str_find(path, LB_STR(".experts."), &at) ? lb_str_sub(path, 0, at + 8) : LB_STR_NONE;
}

static void leave(lb_hf_choice *x) {
    if (x->why != LB_HF_WHY_DEFAULT)
        return;
    x->quantized = false;
    x->why = LB_HF_WHY_MATE;
}

/* The experts of a layer are one module to the loaders. */
static void leave_experts(const by_path *list, u64 n, lb_hf_choice *choices, lb_str experts) {
    u64 lo = 0, hi = n;
    while (lo < hi) {
        u64 mid = lo + (hi - lo) / 2;
        if (lb_str_cmp(list[mid].path, experts) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    for (; lo < n && lb_str_starts(list[lo].path, experts); lo++)
        if (lb_str_eq(lb_hf_experts_of(list[lo].path), experts))
            leave(&choices[list[lo].i]);
}

static void leave_mates(const by_path *list, u64 n, lb_hf_choice *choices, lb_str path) {
    size_t at = path.len;
    while (at && path.ptr[at - 1] != '.')
        at--;
    lb_str parent = lb_str_sub(path, 0, at), leaf = lb_str_sub(path, at, path.len);
    for (size_t k = 0; k < LB_LEN(fused); k++) {
        bool is_one = false;
        for (u32 m = 0; m < 3 && fused[k][m]; m++)
            is_one = is_one || lb_str_eq_c(leaf, fused[k][m]);
        for (u32 m = 0; m < 3 && fused[k][m] && is_one; m++) {
            lb_hf_choice *x = find_path(list, n, choices, parent, fused[k][m]);
            if (x)
                leave(x);
        }
    }
}

static lb_status mind_mates(const lb_hf_job *j, lb_hf_choice *choices, lb_err *err) {
    lb_arena scratch = {0};
    by_path *list = lb_arena_new(&scratch, by_path, j->n + 1);
    u64 n = 0;
    if (!list)
        return lb_fail(err, LB_E_NOMEM, "out of memory for the list of tensors");
    for (u64 i = 0; i < j->n; i++)
        if (choices[i].path.len)
            list[n++] = (by_path){choices[i].path, i};
    qsort(list, n, sizeof *list, cmp_path);
    lb_str last = LB_STR_NONE;
    for (u64 i = 0; i < j->n; i++) {
        lb_str experts = lb_hf_experts_of(choices[i].path);
        if (choices[i].why != LB_HF_WHY_ROWS)
            continue;
        if (experts.len == 0)
            leave_mates(list, n, choices, choices[i].path);
        else if (!lb_str_eq(experts, last))
            leave_experts(list, n, choices, experts);
        last = experts;
    }
    lb_arena_deinit(&scratch);
    return LB_OK;
}

/* ---- choices ---- */

/* Of experts vLLM reads a scale a row with dynamic activations, and no zero points; transformers
 * 5.24 has none either. */
static lb_status check_experts(const lb_hf_choice *c, lb_err *err) {
    bool experts = lb_hf_experts_of(c->path).len && c->quantized;
    if (experts && c->form.asym)
        return lb_fail(err, LB_E_USAGE,
                       "tensor '%.*s': neither transformers nor vLLM reads zero points of experts: "
                       "leave --asym out",
                       LB_FMT(c->path));
    if (experts && c->form.scope == LB_SCOPE_TENSOR)
        return lb_fail(err, LB_E_USAGE,
                       "tensor '%.*s': vLLM reads experts with a scale a row: --group-size channel",
                       LB_FMT(c->path));
    return LB_OK;
}

/* The form of an override's type: the job's, where it is that type's; else the type's own. */
static lb_status form_of(const lb_hf_job *j, lb_hf_type type, lb_hf_form *out, lb_err *err) {
    if (type == j->form->type) {
        *out = *j->form;
        return LB_OK;
    }
    if ((type == LB_HF_FP8_BLOCK) != (j->form->type == LB_HF_FP8_BLOCK))
        return lb_fail(err, LB_E_USAGE,
                       "%s and %s have configs of two kinds (quant_method): a folder has one",
                       types[type].name, types[j->form->type].name);
    const lb_hf_ask none = {0};
    return lb_hf_form_find(lb_str_c(types[type].name), &none, out, err);
}

static lb_status override_one(const lb_hf_job *j, const lb_hf_tensor *t, const lb_override *v,
                              lb_hf_choice *out, lb_err *err) {
    lb_hf_type type = (lb_hf_type)v->type;
    out->why = LB_HF_WHY_OVERRIDE;
    out->quantized = type < LB_HF_F32;
    if (!out->quantized) {
        out->dtype = types[type].dtype;
        return LB_OK;
    }
    lb_status st = form_of(j, type, &out->form, err);
    if (st == LB_OK && (!fits(&out->form, &t->shape) || (out->stack && type != LB_HF_FP8_BLOCK))) {
        char shape[LB_SHAPE_TEXT];
        st = lb_fail(err, LB_E_USAGE, "tensor '%.*s' of %s cannot be %s", LB_FMT(t->name),
                     lb_shape_text(&t->shape, shape), types[type].name);
    }
    if (st != LB_OK)
        lb_err_context(err, "override \"%.*s=%.*s\"", LB_FMT(v->pattern), LB_FMT(v->type_name));
    return st;
}

static lb_status choose_one(const lb_hf_job *j, const lb_hf_tensor *t, lb_hf_choice *out,
                            lb_err *err) {
    const lb_override *v = NULL;
    *out = (lb_hf_choice){.dtype = t->stored};
    out->why = lb_hf_module_of(j, t, out);
    /* a matrix of a module: whatever the rules say of it */
    bool can = out->path.len && out->why != LB_HF_WHY_NO_MODULE && out->why != LB_HF_WHY_TURNED;
    if (j->overrides && can)
        LB_TRY(lb_override_find(j->overrides, t->name, &v, err));
    if (v)
        return override_one(j, t, v, out, err);
    if (out->why != LB_HF_WHY_DEFAULT)
        return LB_OK;
    if (out->stack) /* transformers 5.24 dequantizes none: the codes would be taken for values */
        out->why = LB_HF_WHY_STACK;
    else if (!fits(j->form, &t->shape))
        out->why = LB_HF_WHY_ROWS;
    out->quantized = out->why == LB_HF_WHY_DEFAULT;
    out->form = *j->form;
    return LB_OK;
}

/* Every override is found in the name of a matrix. */
static lb_status check_overrides(const lb_hf_job *j, const lb_hf_choice *choices, lb_err *err) {
    for (const lb_override *v = j->overrides ? j->overrides->first : NULL; v; v = v->next) {
        bool found = false;
        for (u64 i = 0; i < j->n && !found; i++)
            if (choices[i].path.len && choices[i].why != LB_HF_WHY_NO_MODULE &&
                choices[i].why != LB_HF_WHY_TURNED)
                LB_TRY(lb_override_matches(j->overrides, v, j->tensors[i].name, &found, err));
        if (!found)
            return lb_fail(err, LB_E_USAGE,
                           "override \"%.*s=%.*s\": found in the name of no matrix that can be "
                           "quantized",
                           LB_FMT(v->pattern), LB_FMT(v->type_name));
    }
    return LB_OK;
}

lb_status lb_hf_choose(const lb_hf_job *job, lb_hf_choice *out, lb_err *err) {
    u64 n = 0, n_rows = 0, n_turned = 0;
    for (u64 i = 0; i < job->n; i++)
        LB_TRY(choose_one(job, &job->tensors[i], &out[i], err));
    LB_TRY(check_overrides(job, out, err));
    if (!job->pure)
        LB_TRY(mind_mates(job, out, err));
    for (u64 i = 0; i < job->n; i++) {
        LB_TRY(check_experts(&out[i], err));
        n += out[i].quantized;
        n_rows += out[i].why == LB_HF_WHY_ROWS;
        n_turned += out[i].why == LB_HF_WHY_TURNED;
    }
    if (n)
        return LB_OK;
    return lb_fail(err, LB_E_UNSUPPORTED, "--type %s: nothing of this model can be quantized so%s",
                   types[job->form->type].name,
                   n_rows && job->form->type == LB_HF_FP8_BLOCK
                       ? ": no matrix has rows and columns that are multiples of 128 (fp8 and w8a8 "
                         "take any)"
                   : n_rows   ? ": rows are no whole groups"
                   : n_turned ? ": its matrices lie inputs times outputs (Conv1D), and no loader "
                                "looks for codes there"
                              : "");
}

/* ---- outputs ---- */

lb_str lb_hf_part_name(const lb_hf_choice *c, lb_quant_part part, lb_arena *perm) {
    bool block = c->form.type == LB_HF_FP8_BLOCK, packed = c->form.type == LB_HF_W4A16;
    const char *ending = part == LB_QUANT_BIASES  ? "weight_zero_point"
                         : part == LB_QUANT_CODES ? (packed ? "weight_packed" : "weight")
                         : block                  ? "weight_scale_inv"
                                                  : "weight_scale";
    if (c->stack)
        return part == LB_QUANT_CODES ? c->path
                                      : lb_arena_printf(perm, "%.*s_scale_inv", LB_FMT(c->path));
    return lb_arena_printf(perm, "%.*s.%s", LB_FMT(c->path), ending);
}

void lb_hf_part_shape(const lb_hf_choice *c, const lb_shape *shape, lb_quant_part part,
                      lb_shape *out) {
    lb_quant q = lb_hf_quant(&c->form, LB_F32);
    u64 dim[2];
    *out = *shape;
    lb_quant_part_shape(&q, part, shape->dim[shape->rank - 2], shape->dim[shape->rank - 1], dim);
    out->dim[out->rank - 2] = dim[0];
    out->dim[out->rank - 1] = dim[1];
    if (c->form.scope == LB_SCOPE_TENSOR && part != LB_QUANT_CODES)
        *out = (lb_shape){1, {1}};
}

bool lb_hf_has_shape(const lb_hf_form *f) {
    return f->type == LB_HF_W4A16;
}
