/* SPDX-License-Identifier: Apache-2.0 */
/* extract_adapter.c: from factors to an adapter: ranks, A and B, what is saved whole, the config.
 */
#include "base/os.h"
#include "io/json.h"
#include "ops/extract_internal.h"
#include <math.h>

#define PREFIX "base_model.model."

static lb_status oom(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for an adapter");
}

/* ---- what the first run has found ---- */

static lb_status read_floats(const lb_source *s, lb_str name, u64 first, u64 n, float *out,
                             lb_err *err) {
    const lb_tensor *t = name.ptr ? lb_source_tensor(s, name) : NULL;
    int fd = -1;
    if (!t || t->dtype != LB_F32 || first + n > t->n_elems)
        return lb_fail(err, LB_E_FORMAT, "%s: factors are missing: start again", s->path);
    const char *path = s->files[t->file].path;
    LB_TRY(lb_os_open_read(path, &fd, err));
    lb_status st = lb_os_pread(fd, path, (u8 *)(void *)out, n * sizeof *out,
                               t->off_bytes + first * sizeof *out, err);
    lb_os_close(&fd);
    return st;
}

static lb_status read_item(lb_extraction *x, lb_extract_item *it, lb_err *err) {
    float norm;
    if (it->kind == LB_EXTRACT_MATRIX) {
        u64 rows = it->turned ? it->shape.dim[1] : it->shape.dim[0];
        it->sigma = lb_arena_new(&x->perm, float, it->n_thin + 1);
        if (!it->sigma)
            return oom(err);
        LB_TRY(read_floats(x->factors, lb_extract_factor_name(&x->perm, it), rows * it->n_thin,
                           it->n_thin, it->sigma, err));
    }
    if (!lb_extract_wants_norm(x, it))
        return LB_OK;
    LB_TRY(read_floats(x->factors, lb_extract_norm_name(&x->perm, it), 0, 1, &norm, err));
    it->norm = (double)norm;
    if (norm - norm != 0)
        return lb_fail(err, LB_E_FORMAT,
                       "tensor '%.*s' has values that are NaN or infinite (verify lists such "
                       "tensors)",
                       LB_FMT(it->name));
    return LB_OK;
}

/* Values above epsilon and 0, at most --rank; of those as few as have the energy. */
static u64 rank_of(const lb_extract_opts *o, const lb_extract_item *it, bool *short_of) {
    u64 most = LB_MIN(it->n_thin, o->rank), rank = 0;
    double have = 0, want = o->energy * it->norm * it->norm;
    *short_of = false;
    while (rank < most && it->sigma[rank] > 0 && (double)it->sigma[rank] > o->epsilon &&
           !(o->energy > 0 && have >= want)) {
        have += (double)it->sigma[rank] * (double)it->sigma[rank];
        rank++;
    }
    /* sums in f32 are not exact */
    *short_of = o->energy > 0 && rank == o->rank && have < want * (1 - 1e-6);
    return rank;
}

typedef struct counts {
    u32 matrices, equal, short_of, whole, biases, left;
    u64 least, most;
} counts;

/* Of mlx-lm all matrices have one rank: the largest; more singular values than were wanted. */
static void make_uniform(lb_extraction *x, counts *n) {
    for (u32 i = 0; i < x->n && n->most; i++) {
        lb_extract_item *it = &x->items[i];
        if (it->kind == LB_EXTRACT_MATRIX && it->rank)
            it->rank = LB_MIN(it->n_thin, n->most);
    }
    n->least = n->most;
}

static lb_status decide(lb_extraction *x, lb_extract_item *it, counts *n, lb_err *err) {
    bool short_of = false;
    LB_TRY(read_item(x, it, err));
    switch (it->kind) {
    case LB_EXTRACT_MATRIX:
        it->rank = rank_of(x->opts, it, &short_of);
        n->matrices += it->rank > 0;
        n->equal += it->rank == 0;
        n->short_of += short_of;
        if (it->rank) {
            n->least = n->least ? LB_MIN(n->least, it->rank) : it->rank;
            n->most = LB_MAX(n->most, it->rank);
        }
        break;
    case LB_EXTRACT_BIAS:
        n->biases += it->norm > 0;
        break;
    case LB_EXTRACT_WHOLE:
        it->saved = it->norm > 0;
        break;
    case LB_EXTRACT_KEPT:
        it->saved = true;
        break;
    case LB_EXTRACT_NONE:
        n->left += it->asked;
        if (!it->asked && it->norm > 0)
            return lb_fail(err, LB_E_UNSUPPORTED,
                           "tensor '%.*s' differs, and an adapter has no place for it "
                           "(--skip-undecomposable or --exclude-regex leaves it out)",
                           LB_FMT(it->name));
    }
    return LB_OK;
}

/* peft saves and wants modules, with all that they have. */
static void save_modules(lb_extraction *x, counts *n) {
    for (u32 i = 0; i < x->n; i++)
        for (u32 k = i; k > 0 && x->items[i].saved; k--) {
            lb_extract_item *it = &x->items[k - 1];
            if (!lb_str_starts(it->name, x->items[i].module))
                break;
            it->saved |= it->kind == LB_EXTRACT_WHOLE && lb_str_eq(it->module, x->items[i].module);
        }
    for (u32 i = 0; i < x->n; i++) {
        const lb_extract_item *it = &x->items[i];
        for (u32 k = i + 1; k < x->n && it->saved; k++) {
            if (!lb_str_starts(x->items[k].name, it->module))
                break;
            x->items[k].saved |=
                x->items[k].kind == LB_EXTRACT_WHOLE && lb_str_eq(x->items[k].module, it->module);
        }
        n->whole += it->saved;
    }
}

/* The rank of the matrix that a bias goes with: where there is none, peft wraps no module. */
static void name_biases(lb_extraction *x) {
    for (u32 i = 0; i < x->n; i++)
        for (u32 k = i + 1; k < x->n && x->items[i].kind == LB_EXTRACT_BIAS; k++) {
            if (!lb_str_starts(x->items[k].name, x->items[i].module))
                break;
            if (x->items[k].kind == LB_EXTRACT_MATRIX &&
                lb_str_eq(x->items[k].module, x->items[i].module))
                x->items[i].rank = x->items[k].rank;
        }
}

lb_status lb_extract_decide(lb_extraction *x, lb_buf *remarks, lb_err *err) {
    counts n = {0};
    for (u32 i = 0; i < x->n; i++)
        LB_TRY(decide(x, &x->items[i], &n, err));
    save_modules(x, &n);
    name_biases(x);
    if (x->conv->w.to == LB_TO_MLX)
        make_uniform(x, &n);
    if (n.matrices + n.whole + n.biases == 0)
        return lb_fail(err, LB_E_FORMAT,
                       "the models do not differ where an adapter could say how: there is nothing "
                       "to extract");
    if (!remarks)
        return LB_OK;
    lb_buf_printf(remarks, "%u matrices of ranks %llu to %llu", n.matrices,
                  (unsigned long long)n.least, (unsigned long long)n.most);
    if (n.equal)
        lb_buf_printf(remarks, "; %u are equal in both models", n.equal);
    if (n.biases)
        lb_buf_printf(remarks, "; %u biases", n.biases);
    lb_buf_put_c(remarks, "\n");
    if (n.short_of)
        lb_buf_printf(remarks, "%u matrices have less than --energy at rank %u\n", n.short_of,
                      x->opts->rank);
    if (n.whole)
        lb_buf_printf(remarks, "%u tensors are saved whole\n", n.whole);
    if (n.left)
        lb_buf_printf(remarks, "%u tensors are left out, as asked\n", n.left);
    return LB_OK;
}

/* ---- the source ---- */

/* One tensor of the adapter. */
typedef enum role { ROLE_A, ROLE_B, ROLE_BIAS, ROLE_WHOLE } role; /* as it is: from BIAS on */
typedef struct tensor {
    const lb_extract_item *item;
    role role;
} tensor;

typedef struct made {
    lb_computed computed; /* first */
    const lb_extraction *x;
    tensor *list; /* weight i of the source */
    lb_str card;
} made;

static u64 inputs_of(const lb_extract_item *it) {
    return it->shape.dim[it->swapped ? 0 : 1];
}

static u64 outputs_of(const lb_extract_item *it) {
    return it->shape.dim[it->swapped ? 1 : 0];
}

static lb_status push(lb_source *s, made *m, const lb_extract_item *it, role r, lb_err *err) {
    static const char *const ends[][2] = {{".lora_A.weight", ".lora_embedding_A"},
                                          {".lora_B.weight", ".lora_embedding_B"},
                                          {".base_layer.bias", ".base_layer.bias"}};
    lb_dtype dtype = m->x->conv->cast ? m->x->conv->dtype : LB_F32;
    lb_shape shape = it->shape;
    bool whole = r == ROLE_WHOLE || (r == ROLE_BIAS && !it->rank);
    lb_str name = whole ? lb_arena_printf(&s->perm, PREFIX "%.*s", LB_FMT(it->name))
                        : lb_arena_printf(&s->perm, PREFIX "%.*s%s", LB_FMT(it->module),
                                          ends[r][it->embedding]);
    if (!name.ptr)
        return oom(err);
    if (r == ROLE_A)
        shape = (lb_shape){.rank = 2, .dim = {it->rank, inputs_of(it)}};
    if (r == ROLE_B)
        shape = (lb_shape){.rank = 2, .dim = {outputs_of(it), it->rank}};
    if (r >= ROLE_BIAS && !m->x->conv->cast)
        dtype = it->dtype;
    m->list[s->n_tensors] = (tensor){it, r};
    return lb_source_add_computed(s, name, dtype, &shape, err);
}

static lb_status push_all(lb_source *s, made *m, lb_err *err) {
    const lb_extraction *x = m->x;
    for (u32 i = 0; i < x->n; i++) {
        const lb_extract_item *it = &x->items[i];
        if (it->kind == LB_EXTRACT_MATRIX && it->rank) {
            LB_TRY(push(s, m, it, ROLE_A, err));
            LB_TRY(push(s, m, it, ROLE_B, err));
        } else if (it->kind == LB_EXTRACT_BIAS && it->norm > 0) {
            LB_TRY(push(s, m, it, ROLE_BIAS, err));
        } else if (it->saved) {
            LB_TRY(push(s, m, it, ROLE_WHOLE, err));
        }
    }
    return LB_OK;
}

/* Rows of U or of V, each column times its part of the singular value. */
static lb_node_id side(lb_plan *p, const lb_extraction *x, u32 factors, const lb_extract_item *it,
                       bool left, bool is_a) {
    lb_graph *g = &p->graph;
    lb_str name = lb_extract_factor_name(&p->perm, it);
    const lb_weight *w = lb_source_weight(x->factors, name);
    u64 rows[2] = {it->shape.dim[it->turned ? 1 : 0], it->shape.dim[it->turned ? 0 : 1]};
    bool upper = left != it->turned;
    float *by = lb_arena_new(&p->perm, float, it->rank + 1);
    if (!w || !by)
        return LB_NODE_NONE;
    for (u64 i = 0; i < it->rank; i++)
        by[i] = x->opts->distribute ? sqrtf(it->sigma[i]) : is_a ? it->sigma[i] : 1;
    lb_node_id f = lb_expr_decode(g, lb_expr_read(g, factors, w));
    f = lb_expr_rows(g, f, upper ? 0 : rows[0] + 1, 1, upper ? rows[0] : rows[1]);
    f = lb_expr_cols(g, f, 0, it->rank);
    return lb_expr_map2(g, LB_MAP_MUL, f, lb_expr_const(g, 1, it->rank, by), LB_CONST(0));
}

static lb_node_id node_of(lb_plan *p, const made *m, const tensor *t, u32 index,
                          const lb_merge_view *view) {
    const lb_extract_item *it = t->item;
    u32 factors = lb_computed_input(p, index, 0);
    switch (t->role) {
    case ROLE_A: /* [rank, inputs] */
        return lb_expr_transpose(&p->graph, side(p, m->x, factors, it, it->swapped, true));
    case ROLE_B: /* [outputs, rank] */
        return side(p, m->x, factors, it, !it->swapped, false);
    default:
        return view->nodes[it->fact];
    }
}

static lb_status bind(const lb_computed *c, lb_plan *p, u32 index, lb_node_id *nodes, lb_err *err) {
    const made *m = (const made *)(const void *)c;
    const lb_source *s = p->graph.sources[index];
    lb_merge_view view = {0};
    lb_status st = LB_OK;
    if (s->n_inputs > 1)
        st = lb_merge_view_make(p, lb_computed_input(p, index, 1), NULL, &view, err);
    for (u64 i = 0; i < s->n_weights && st == LB_OK; i++) {
        lb_node_id x = node_of(p, m, &m->list[i], index, &view);
        st = lb_graph_status(&p->graph, err);
        if (st == LB_OK && x == LB_NODE_NONE)
            st = oom(err);
        if (st == LB_OK && !lb_expr_is_stored_as(&p->graph, x, s->tensors[i].dtype))
            x = lb_expr_decode(&p->graph, x);
        nodes[i] = x;
    }
    lb_merge_view_deinit(&view);
    return st;
}

/* ---- adapter_config.json ---- */

static lb_str last_of(lb_str module) {
    size_t n = module.len;
    while (n > 0 && module.ptr[n - 1] != '.')
        n--;
    return lb_str_sub(module, n, module.len);
}

static bool in_array(const lb_json *a, lb_str s) {
    for (const lb_json *v = a->first; v; v = v->next)
        if (lb_str_eq(v->text, s))
            return true;
    return false;
}

/* Whether a matrix of the model whose module has this last part is not in the adapter: peft would
 * take it for one of the adapter's. */
static bool is_partial(const lb_extraction *x, lb_str last) {
    for (u32 i = 0; i < x->n; i++) {
        const lb_extract_item *it = &x->items[i];
        bool in = it->kind == LB_EXTRACT_MATRIX && it->rank;
        if (!in && it->kind != LB_EXTRACT_BIAS && it->shape.rank == 2 &&
            lb_str_eq(last_of(it->module), last))
            return true;
    }
    return false;
}

static bool push_once(lb_arena *a, lb_json *list, lb_str s) {
    return in_array(list, s) || lb_json_push(list, lb_json_new_str(a, s));
}

static bool fill_lists(const lb_extraction *x, lb_arena *a, u64 most, lb_json *targets,
                       lb_json *saved, lb_json *patterns[2]) {
    bool ok = true;
    for (u32 i = 0; i < x->n && ok; i++) {
        const lb_extract_item *it = &x->items[i];
        lb_str last = last_of(it->module);
        if (it->saved) /* whole names: peft takes all whose names end so, and wants them all */
            ok = push_once(a, saved, it->module);
        if (it->kind != LB_EXTRACT_MATRIX || !it->rank)
            continue;
        ok = is_partial(x, last) ? lb_json_push(targets, lb_json_new_str(a, it->module))
                                 : push_once(a, targets, last);
        for (u32 k = 0; k < 2 && it->rank != most && ok; k++) {
            lb_str key = lb_arena_printf(a, "%.*s", LB_FMT(it->module));
            ok = key.ptr && lb_json_set(a, patterns[k], key.ptr, lb_json_new_u64(a, it->rank));
        }
    }
    return ok;
}

static u64 most_rank(const lb_extraction *x) {
    u64 most = 1;
    for (u32 i = 0; i < x->n; i++)
        if (x->items[i].kind == LB_EXTRACT_MATRIX)
            most = LB_MAX(most, x->items[i].rank);
    return most;
}

static bool has_biases(const lb_extraction *x) {
    for (u32 i = 0; i < x->n; i++)
        if (x->items[i].kind == LB_EXTRACT_BIAS && x->items[i].norm > 0)
            return true;
    return false;
}

static lb_status push_config(lb_source *s, const lb_extraction *x, lb_err *err) {
    lb_arena *a = &s->perm;
    u64 most = most_rank(x);
    const char *bias = has_biases(x) ? "all" : "none"; /* the model's own */
    lb_json *c = lb_json_new_object(a), *targets = lb_json_new_array(a),
            *saved = lb_json_new_array(a), *patterns[2];
    patterns[0] = lb_json_new_object(a);
    patterns[1] = lb_json_new_object(a);
    if (!c || !targets || !saved || !patterns[0] || !patterns[1])
        return oom(err);
    bool ok =
        fill_lists(x, a, most, targets, saved, patterns) &&
        lb_json_set(a, c, "alpha_pattern", patterns[1]) &&
        lb_json_set(a, c, "base_model_name_or_path", lb_json_new_str(a, lb_str_c(x->base->path))) &&
        lb_json_set(a, c, "bias", lb_json_new_str(a, lb_str_c(bias))) &&
        lb_json_set(a, c, "fan_in_fan_out", lb_json_new_bool(a, x->conv1d)) &&
        lb_json_set(a, c, "inference_mode", lb_json_new_bool(a, true)) &&
        lb_json_set(a, c, "lora_alpha", lb_json_new_u64(a, most)) &&
        lb_json_set(a, c, "lora_dropout", lb_json_new_f64(a, 0)) &&
        lb_json_set(a, c, "modules_to_save", saved->n ? saved : lb_json_new_null(a)) &&
        lb_json_set(a, c, "peft_type", lb_json_new_str(a, LB_STR("LORA"))) &&
        lb_json_set(a, c, "r", lb_json_new_u64(a, most)) &&
        lb_json_set(a, c, "rank_pattern", patterns[0]) &&
        lb_json_set(a, c, "target_modules", targets) &&
        lb_json_set(a, c, "task_type", lb_json_new_str(a, LB_STR("CAUSAL_LM"))) &&
        lb_json_set(a, c, "use_dora", lb_json_new_bool(a, false)) &&
        lb_json_set(a, c, "use_rslora", lb_json_new_bool(a, false));
    lb_buf b = {0};
    if (ok) {
        lb_json_write(&b, c, (lb_json_style){.indent = 2, .ascii = true});
        lb_buf_put_c(&b, "\n");
    }
    lb_str text = ok ? lb_arena_str(a, lb_buf_str(&b)) : LB_STR_NONE;
    lb_buf_deinit(&b);
    return text.ptr ? lb_computed_side(s, LB_STR("adapter_config.json"), text, false, err)
                    : oom(err);
}

/* README.md: what it was made of. */
static lb_status push_card(lb_source *s, const lb_extraction *x, lb_err *err) {
    const lb_extract_opts *o = x->opts;
    lb_str how = o->exact ? lb_arena_printf(&s->perm, "exact")
                          : lb_arena_printf(&s->perm, "randomised, %u iterations, seed %llu",
                                            o->power, (unsigned long long)o->seed);
    lb_str text = lb_arena_printf(
        &s->perm,
        "---\nlibrary_name: peft\ntags:\n- lora\n---\n# A LoRA adapter extracted from two "
        "models\n\nThe difference of two models, of rank %llu at most, extracted by "
        "lbrx " LB_VERSION
        " (`lbrx lora extract`; %.*s).\n\n| | model | digest (XXH3-128) |\n|---|---|---|\n"
        "| base | %.*s | %.*s |\n| fine-tuned | %.*s | %.*s |\n",
        (unsigned long long)most_rank(x), LB_FMT(how), LB_FMT(x->base->label), LB_FMT(x->digest[0]),
        LB_FMT(x->tuned->label), LB_FMT(x->digest[1]));
    return how.ptr && text.ptr ? lb_computed_side(s, LB_STR("README.md"), text, true, err)
                               : oom(err);
}

lb_status lb_extract_adapter(lb_extraction *x, lb_source **out, lb_err *err) {
    lb_source *s;
    LB_TRY(lb_computed_new(out, NULL, x->tuned->path, NULL, err));
    s = *out;
    made *m = lb_arena_new(&s->perm, made, 1);
    if (!m || !(m->list = lb_arena_new(&s->perm, tensor, 2 * (u64)x->n + 1)))
        return oom(err);
    m->computed.bind = bind;
    m->x = x;
    s->computed = &m->computed;
    LB_TRY(push_all(s, m, err));
    LB_TRY(push_config(s, x, err));
    LB_TRY(push_card(s, x, err));
    bool model = false;
    for (u64 i = 0; i < s->n_tensors; i++)
        model |= m->list[i].role >= ROLE_BIAS;
    LB_TRY(lb_computed_room(s, 2, err));
    lb_source *factors = x->factors; /* stays the extraction's to look at */
    lb_computed_take(s, &x->factors);
    x->factors = factors;
    x->taken = true;
    if (model)
        lb_computed_take(s, &x->tuned);
    return LB_OK;
}
