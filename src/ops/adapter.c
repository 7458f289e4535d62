/* SPDX-License-Identifier: Apache-2.0 */
/* adapter.c: names and shapes of an adapter; its config stands in adapter_config.c. */
#include "ops/adapter_internal.h"
#include <stdlib.h>

#define PEFT_PREFIX "base_model.model."

static lb_status oom(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for the tensors of an adapter");
}

/* ---- names ---- */

/* What a stored tensor is. */
typedef enum kind {
    IS_NONE,
    IS_A,
    IS_B,
    IS_MAGNITUDE,
    IS_BIAS,
    IS_ROWS,
    IS_BASE,
    IS_IDLE,
    IS_VALUE
} kind;

typedef struct named {
    kind kind;
    lb_str module;
    u32 depth;
    bool embedding;
} named;

static bool cut_end(lb_str *s, const char *end) {
    size_t n = strlen(end);
    if (!lb_str_ends(*s, lb_str_c(end)) || s->len == n)
        return false;
    s->len -= n;
    return true;
}

static u32 cut_depth(lb_str *s) {
    u32 n = 0;
    while (cut_end(s, ".base_layer"))
        n++;
    return n;
}

/* MODULE.lora_A.weight and the like; "default", the adapter's name, is left in by some tools. */
static bool read_lora(lb_str name, named *out) {
    static const struct {
        const char *end;
        kind kind;
        bool embedding;
    } ends[] = {
        {".lora_A", IS_A, false},
        {".lora_B", IS_B, false},
        {".lora_embedding_A", IS_A, true},
        {".lora_embedding_B", IS_B, true},
        {".lora_magnitude_vector", IS_MAGNITUDE, false},
        {".token_adapter.trainable_tokens_delta", IS_ROWS, false},
    };
    lb_str m = name;
    bool bias = cut_end(&m, ".bias");
    if (!bias)
        (void)cut_end(&m, ".weight");
    (void)cut_end(&m, ".default");
    for (size_t i = 0; i < LB_LEN(ends); i++) {
        out->module = m;
        if (!cut_end(&out->module, ends[i].end) || (bias && ends[i].kind != IS_B))
            continue;
        out->kind = bias ? IS_BIAS : ends[i].kind;
        out->embedding = ends[i].embedding;
        out->depth = cut_depth(&out->module);
        return true;
    }
    return false;
}

/* A whole tensor's name as in the base model: without what wraps its module. */
static lb_str bare_name(lb_arena *perm, lb_str name) {
    static const char *const parts[] = {".modules_to_save.default.", ".modules_to_save.",
                                        ".base_layer."};
    for (size_t i = 0; i < LB_LEN(parts); i++) {
        size_t at, n = strlen(parts[i]);
        if (lb_str_find(name, lb_str_c(parts[i]), &at))
            name = lb_arena_printf(perm, "%.*s.%.*s", (int)at, name.ptr, (int)(name.len - at - n),
                                   name.ptr + at + n);
    }
    return name;
}

static lb_status read_peft(lb_adapter *a, lb_str name, named *out, lb_err *err) {
    size_t at;
    if (lb_str_starts(name, LB_STR(PEFT_PREFIX)))
        name = lb_str_sub(name, sizeof PEFT_PREFIX - 1, name.len);
    if (read_lora(name, out))
        return LB_OK;
    if (lb_str_find(name, LB_STR(".lora_"), &at) ||
        lb_str_find(name, LB_STR(".token_adapter."), &at))
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "tensor '%.*s' is of a kind of adapter that is not known", LB_FMT(name));
    out->kind = lb_str_find(name, LB_STR(".original_module."), &at) ? IS_IDLE
                : lb_str_ends(name, LB_STR(".base_layer.weight"))   ? IS_BASE
                                                                    : IS_VALUE;
    out->module = bare_name(a->perm, name);
    if (!out->module.ptr)
        return oom(err);
    lb_str module = out->module;
    if (out->kind == IS_VALUE && cut_end(&module, ".weight") && !lb_adapter_saves(a, module) &&
        (lb_adapter_is_embedding(module) || lb_str_ends(module, LB_STR("lm_head"))))
        out->kind = IS_BASE; /* save_embedding_layers */
    return LB_OK;
}

static bool read_ends(lb_str name, const char *const ends[3], named *out) {
    static const kind kinds[] = {IS_A, IS_B, IS_MAGNITUDE};
    for (u32 i = 0; i < 3 && ends[i]; i++) {
        out->module = name;
        out->kind = kinds[i];
        if (cut_end(&out->module, ends[i]))
            return true;
    }
    return false;
}

static const char *const mlx_ends[] = {".lora_a", ".lora_b", ".m"};
static const char *const gguf_ends[] = {".lora_a", ".lora_b", NULL};

static lb_status read_name(lb_adapter *a, lb_str name, named *out, lb_err *err) {
    *out = (named){0};
    if (a->form == LB_ADAPTER_PEFT)
        return read_peft(a, name, out, err);
    if (!a->full && read_ends(name, a->form == LB_ADAPTER_MLX ? mlx_ends : gguf_ends, out))
        return LB_OK;
    out->module = name;
    out->kind = IS_VALUE;
    return LB_OK;
}

const char *lb_adapter_form_name(lb_adapter_form f) {
    static const char *const names[] = {NULL, "PEFT", "MLX", "GGUF"};
    return names[f];
}

lb_world lb_adapter_world(lb_adapter_form f) {
    return f == LB_ADAPTER_GGUF ? LB_WORLD_GGUF : f == LB_ADAPTER_MLX ? LB_WORLD_MLX : LB_WORLD_HF;
}

lb_adapter_form lb_adapter_form_of(const lb_source *s) {
    lb_str type;
    if (s->format == LB_FORMAT_GGUF) {
        const lb_gguf_kv *kv = lb_meta_find(s->gguf, "general.type");
        return kv && lb_kv_as_str(kv, &type) && lb_str_eq_c(type, "adapter") ? LB_ADAPTER_GGUF
                                                                             : LB_ADAPTER_NONE;
    }
    for (u64 i = 0; i < s->n_tensors; i++) {
        named n = {0};
        if (read_lora(s->tensors[i].name, &n) && n.kind != IS_ROWS)
            return LB_ADAPTER_PEFT;
        if (read_ends(s->tensors[i].name, (const char *const[]){".lora_a", ".lora_b", NULL}, &n))
            return LB_ADAPTER_MLX;
    }
    return LB_ADAPTER_NONE;
}

/* ---- the list ---- */

static int by_module(const void *x, const void *y) {
    const lb_adapter_part *p = x, *q = y;
    int c = lb_str_cmp(p->module, q->module);
    return c ? c : p->depth < q->depth ? -1 : p->depth > q->depth;
}

static u32 *field_of(lb_adapter_part *p, kind k) {
    return k == IS_A ? &p->a : k == IS_B ? &p->b : k == IS_MAGNITUDE ? &p->magnitude : &p->bias;
}

static lb_status add_part(lb_adapter *a, u32 weight, const named *n, lb_map *at, lb_err *err) {
    u64 k = a->n;
    bool existed;
    lb_str key = lb_arena_printf(a->perm, "%u %.*s", n->depth, LB_FMT(n->module));
    if (!key.ptr)
        return oom(err);
    LB_TRY(lb_map_put(at, key, a->n, &existed, err));
    if (existed)
        (void)lb_map_find(at, key, &k);
    else
        a->parts[a->n++] = (lb_adapter_part){.module = n->module,
                                             .depth = n->depth,
                                             .a = LB_ADAPTER_ABSENT,
                                             .b = LB_ADAPTER_ABSENT,
                                             .magnitude = LB_ADAPTER_ABSENT,
                                             .bias = LB_ADAPTER_ABSENT,
                                             .n_stack = 1};
    lb_adapter_part *p = &a->parts[k];
    u32 *field = field_of(p, n->kind);
    if (*field != LB_ADAPTER_ABSENT)
        return lb_fail(err, LB_E_FORMAT, "two tensors are %s of '%.*s'",
                       n->kind == IS_A           ? "matrix A"
                       : n->kind == IS_B         ? "matrix B"
                       : n->kind == IS_MAGNITUDE ? "the magnitude"
                                                 : "the bias of B",
                       LB_FMT(n->module));
    *field = weight;
    p->embedding |= n->embedding;
    return LB_OK;
}

static lb_status add_tensor(lb_adapter *a, u32 i, lb_map *at, lb_err *err) {
    named n;
    LB_TRY(read_name(a, a->source->weights[i].name, &n, err));
    if (n.kind < IS_ROWS)
        return add_part(a, i, &n, at, err);
    lb_adapter_value *v = &a->values[a->n_values++];
    *v = (lb_adapter_value){.name = n.module,
                            .weight = i,
                            .is_base = n.kind == IS_BASE || n.kind == IS_IDLE,
                            .is_idle = n.kind == IS_IDLE};
    return n.kind == IS_ROWS ? lb_adapter_token_rows(a, v, err) : LB_OK;
}

/* ---- shapes ---- */

static lb_status check_plain(const lb_adapter *a, u32 weight, u32 rank, lb_err *err) {
    const lb_weight *w = &a->source->weights[weight];
    if (w->shape.rank > 3 || (w->shape.rank == 3 && a->form == LB_ADAPTER_PEFT))
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "tensor '%.*s': adapters of convolutions are not supported",
                       LB_FMT(w->name));
    bool whole = w->enc.kind == LB_ENC_PLAIN || w->enc.kind == LB_ENC_VIEW;
    if (!whole || (rank == 1 ? w->shape.rank != 1 && w->shape.rank != 2 : w->shape.rank < 2))
        return lb_fail(err, LB_E_FORMAT, "tensor '%.*s' is not a plain %s", LB_FMT(w->name),
                       rank == 1 ? "vector" : "matrix");
    return LB_OK;
}

static lb_status rank_fault(const lb_adapter_part *p, u64 a, u64 b, lb_err *err) {
    return lb_fail(err, LB_E_FORMAT, "'%.*s': A has rank %llu and B %llu", LB_FMT(p->module),
                   (unsigned long long)a, (unsigned long long)b);
}

/* [matrices, rank, in] (mlx-lm once had [matrices x rank, in]) and [matrices, out, rank]. */
static lb_status set_stack(const lb_adapter *a, lb_adapter_part *p, lb_err *err) {
    const lb_shape *x = &a->source->weights[p->a].shape, *y = &a->source->weights[p->b].shape;
    u64 n;
    if (y->rank != 3)
        return rank_fault(p, x->dim[1], y->dim[0], err);
    p->n_stack = y->dim[0];
    p->n_out = y->dim[1];
    p->rank = y->dim[2];
    p->n_in = x->dim[x->rank - 1];
    u64 rows = x->rank == 3 ? 0 : x->dim[0];
    if (x->rank == 3 && x->dim[0] == p->n_stack && x->dim[1] == p->rank && p->rank)
        return LB_OK;
    if (x->rank == 2 && p->rank && lb_mul_u64(p->n_stack, p->rank, &n) && n == rows)
        return LB_OK;
    return rank_fault(p, x->rank == 3 ? x->dim[1] : rows, p->rank, err);
}

static lb_status set_matrices(const lb_adapter *a, lb_adapter_part *p, lb_err *err) {
    bool mlx = a->form == LB_ADAPTER_MLX;
    for (u32 k = 0; k < 2; k++) {
        u32 w = k ? p->b : p->a;
        if (w == LB_ADAPTER_ABSENT)
            return lb_fail(err, LB_E_FORMAT, "'%.*s' has no matrix %s", LB_FMT(p->module),
                           k ? "B" : "A");
        LB_TRY(check_plain(a, w, 2, err));
    }
    const lb_shape *x = &a->source->weights[p->a].shape, *y = &a->source->weights[p->b].shape;
    if (x->rank == 3 || y->rank == 3)
        return set_stack(a, p, err);
    bool flip = a->form == LB_ADAPTER_GGUF && lb_adapter_is_embedding(p->module);
    p->rank = mlx ? y->dim[0] : y->dim[1];
    p->n_in = mlx || flip ? x->dim[0] : x->dim[1];
    p->n_out = mlx ? y->dim[1] : y->dim[0];
    u64 rank = mlx || flip ? x->dim[1] : x->dim[0];
    return rank == p->rank && rank ? LB_OK : rank_fault(p, rank, p->rank, err);
}

static lb_status check_vectors(const lb_adapter *a, const lb_adapter_part *p, lb_err *err) {
    const u32 vectors[] = {p->magnitude, p->bias};
    u64 n;
    for (u32 k = 0; k < 2; k++) {
        if (vectors[k] == LB_ADAPTER_ABSENT)
            continue;
        const lb_weight *w = &a->source->weights[vectors[k]];
        LB_TRY(check_plain(a, vectors[k], 1, err));
        u64 want = a->form == LB_ADAPTER_MLX && p->embedding ? p->n_in : p->n_out;
        if (!lb_shape_elems(&w->shape, &n) || n != want || p->n_stack != 1)
            return lb_fail(err, LB_E_FORMAT, "tensor '%.*s' is not a vector of %llu",
                           LB_FMT(w->name), (unsigned long long)want);
    }
    return LB_OK;
}

bool lb_adapter_is_embedding(lb_str module) {
    static const char *const names[] = {"embed_tokens", "wte", "tok_embeddings",
                                        "token_embd.weight"};
    for (size_t i = 0; i < LB_LEN(names); i++) {
        lb_str end = lb_str_c(names[i]);
        if (lb_str_eq(module, end) ||
            (lb_str_ends(module, end) && module.ptr[module.len - end.len - 1] == '.'))
            return true;
    }
    return false;
}

static lb_status read_tensors(lb_adapter *a, lb_err *err) {
    const lb_source *s = a->source;
    lb_map at = {0};
    lb_status st = LB_OK;
    a->parts = lb_arena_new(a->perm, lb_adapter_part, s->n_weights + 1);
    a->values = lb_arena_new(a->perm, lb_adapter_value, s->n_weights + 1);
    if (!a->parts || !a->values)
        return oom(err);
    for (u64 i = 0; i < s->n_weights && st == LB_OK; i++)
        st = add_tensor(a, (u32)i, &at, err);
    lb_map_deinit(&at);
    LB_TRY(st);
    qsort(a->parts, a->n, sizeof *a->parts, by_module);
    for (u64 i = 0; i < a->n; i++)
        if (a->form != LB_ADAPTER_PEFT)
            a->parts[i].embedding = lb_adapter_is_embedding(a->parts[i].module);
    return LB_OK;
}

lb_status lb_adapter_read(lb_adapter *a, const lb_source *s, lb_arena *perm, lb_err *err) {
    *a = (lb_adapter){.source = s, .perm = perm, .form = lb_adapter_form_of(s)};
    LB_TRY(lb_adapter_read_config(a, err));
    LB_TRY(read_tensors(a, err));
    if (a->n + a->n_values == 0)
        return lb_fail(err, LB_E_FORMAT, "the adapter holds no matrices");
    LB_TRY(lb_adapter_name_parameters(a, err));
    for (u64 i = 0; i < a->n; i++) {
        LB_TRY(set_matrices(a, &a->parts[i], err));
        LB_TRY(lb_adapter_set_scale(a, &a->parts[i], err));
        LB_TRY(check_vectors(a, &a->parts[i], err));
    }
    return LB_OK;
}

/* ---- factors ---- */

static lb_node_id values_of(lb_graph *g, u32 source, const lb_adapter *a, u32 weight) {
    return lb_expr_decode(g, lb_expr_read(g, source, &a->source->weights[weight]));
}

lb_adapter_factors lb_adapter_factors_of(const lb_adapter *a, const lb_adapter_part *p, u64 e,
                                         lb_graph *g, u32 source) {
    lb_node_id x = values_of(g, source, a, p->a), y = values_of(g, source, a, p->b);
    lb_adapter_factors f = {.left = y, .right = x, .n_rows = p->n_out, .n_cols = p->n_in};
    bool turned = p->embedding && p->n_stack == 1;
    if (turned) {
        f.n_rows = p->n_in;
        f.n_cols = p->n_out;
    }
    if (p->n_stack > 1) {
        f.right = lb_expr_rows(g, x, e * p->rank, 1, p->rank);
        f.left = a->form == LB_ADAPTER_PEFT ? lb_expr_every(g, y, e, p->n_stack)
                                            : lb_expr_rows(g, y, e * p->n_out, 1, p->n_out);
    } else if (a->form == LB_ADAPTER_MLX) {
        f.left = turned ? x : lb_expr_transpose(g, y);
        f.right = turned ? y : lb_expr_transpose(g, x);
    } else if (turned) {
        f.left = a->form == LB_ADAPTER_GGUF ? x : lb_expr_transpose(g, x);
        f.right = lb_expr_transpose(g, y);
    }
    return f;
}
