/* SPDX-License-Identifier: Apache-2.0 */
/* extract_list.c: which tensors of a model an adapter gets, in which form, and the expressions of
 * their factors. */
#include "ops/extract_internal.h"
#include "text/regex.h"
#include <math.h>

static lb_status oom(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for the tensors of an adapter");
}

/* ---- names ---- */

/* "a.b.weight": "a.b"; *suffix "weight". Names without a dot are their own module. */
static lb_str module_of(lb_str name, lb_str *suffix) {
    size_t n = name.len;
    while (n > 0 && name.ptr[n - 1] != '.')
        n--;
    *suffix = lb_str_sub(name, n, name.len);
    return n ? lb_str_sub(name, 0, n - 1) : name;
}

static lb_str last_part(lb_str module) {
    lb_str last;
    (void)module_of(module, &last);
    return last;
}

static bool is_named(const lb_extract_opts *o, lb_str module) {
    lb_str last = last_part(module);
    for (u32 i = 0; i < o->n_save; i++)
        if (lb_str_eq_c(module, o->save[i]) || lb_str_eq_c(last, o->save[i]))
            return true;
    return false;
}

typedef struct patterns {
    lb_regex **include, **exclude;
} patterns;

static lb_status compile(lb_arena *a, const char *const *text, u32 n, lb_regex ***out,
                         lb_err *err) {
    *out = lb_arena_new(a, lb_regex *, n + 1);
    if (!*out)
        return oom(err);
    memset(*out, 0, (n + 1) * sizeof **out);
    for (u32 i = 0; i < n; i++) {
        if (lb_regex_new(&(*out)[i], lb_str_c(text[i]), false, err) == LB_OK)
            continue;
        lb_err_context(err, "pattern '%s'", text[i]);
        if (err)
            err->code = LB_E_USAGE;
        return LB_E_USAGE;
    }
    return LB_OK;
}

static void free_patterns(const lb_extract_opts *o, patterns *p) {
    for (u32 i = 0; p->include && i < o->n_include; i++)
        lb_regex_free(&p->include[i]);
    for (u32 i = 0; p->exclude && i < o->n_exclude; i++)
        lb_regex_free(&p->exclude[i]);
}

static lb_status any_found(lb_regex *const *list, u32 n, lb_str text, bool *found, lb_err *err) {
    *found = false;
    for (u32 i = 0; i < n && !*found; i++) {
        lb_regex_iter it;
        size_t from, to;
        LB_TRY(lb_regex_begin(&it, list[i], text, err));
        lb_status st = lb_regex_next(&it, &from, &to, found, err);
        lb_regex_end(&it);
        if (st != LB_OK)
            return st;
    }
    return LB_OK;
}

/* ---- kinds ---- */

typedef struct lister {
    lb_extraction *x;
    const lb_merge_view *base, *tuned;
    patterns patterns;
    bool transposed; /* the family has matrices that stand so */
} lister;

static const lb_merge_fact *find(const lb_merge_view *v, lb_str name, u32 *index) {
    u32 lo = 0, hi = v->n;
    while (lo < hi) {
        u32 mid = lo + (hi - lo) / 2;
        int c = lb_str_cmp(v->facts[mid].name, name);
        if (c == 0) {
            *index = mid;
            return &v->facts[mid];
        }
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

/* Names of modules that turn numbers into rows, where the table says nothing. */
static bool is_embedding(const lb_merge_fact *f, lb_str module) {
    lb_str last = last_part(module);
    size_t at;
    return (f->is_vocab && !f->after) || lb_str_eq_c(last, "wpe") || lb_str_eq_c(last, "wte") ||
           lb_str_find(last, LB_STR("embed"), &at);
}

static bool any_transposed(const lb_merge_view *v) {
    for (u64 i = 0; i < v->canon.n_tensors; i++)
        if (v->canon.tensors[i].known && v->canon.tensors[i].match.row->relayout == LB_RL_TRANSPOSE)
            return true;
    return false;
}

static bool stands_transposed(const lb_merge_view *v, lb_str name) {
    for (u64 i = 0; i < v->canon.n_tensors; i++) {
        const lb_ctensor *t = &v->canon.tensors[i];
        if (!t->known || t->match.row->relayout != LB_RL_TRANSPOSE)
            continue;
        lb_arena a = {0};
        lb_str hf = lb_ctensor_hf_name(&v->canon, t, LB_NO_INDEX, &a);
        bool same = hf.ptr && lb_str_eq(hf, name);
        lb_arena_deinit(&a);
        if (same)
            return true;
    }
    return false;
}

static lb_status check_shape(const lb_extract_item *it, const lb_merge_fact *b, lb_err *err) {
    char have[LB_SHAPE_TEXT], want[LB_SHAPE_TEXT];
    if (lb_shape_eq(&it->shape, &b->shape))
        return LB_OK;
    return lb_fail(err, LB_E_FORMAT,
                   "tensor '%.*s': %s in the model, %s in the base model: no adapter makes one of "
                   "the other (--save-module %.*s saves it whole, --exclude-regex leaves it out)",
                   LB_FMT(it->name), lb_shape_text(&it->shape, have),
                   lb_shape_text(&b->shape, want), LB_FMT(last_part(it->module)));
}

/* kind of a tensor that patterns and names say nothing about. */
static lb_extract_kind natural(const lister *l, const lb_merge_fact *f, const lb_merge_fact *b,
                               lb_extract_item *it, lb_str suffix) {
    const lb_extract_opts *o = l->x->opts;
    bool matrix = f->shape.rank == 2 && lb_str_eq_c(suffix, "weight");
    bool vocab = f->is_vocab || (matrix && it->embedding);
    if (matrix && vocab && (!o->embed || (b && !lb_shape_eq(&f->shape, &b->shape))))
        return LB_EXTRACT_WHOLE;
    if (matrix)
        return LB_EXTRACT_MATRIX;
    if (lb_str_eq_c(suffix, "bias"))
        return LB_EXTRACT_BIAS; /* or WHOLE, once its module is known */
    return f->shape.rank != 2 && lb_str_eq_c(suffix, "weight") ? LB_EXTRACT_WHOLE : LB_EXTRACT_NONE;
}

static lb_status choose(const lister *l, const lb_merge_fact *f, const lb_merge_fact *b,
                        lb_extract_item *it, lb_err *err) {
    const lb_extract_opts *o = l->x->opts;
    lb_str suffix;
    bool in = true, out = false;
    it->module = module_of(it->name, &suffix);
    it->embedding = is_embedding(f, it->module) && f->shape.rank == 2;
    LB_TRY(any_found(l->patterns.exclude, o->n_exclude, it->module, &out, err));
    if (o->n_include)
        LB_TRY(any_found(l->patterns.include, o->n_include, it->module, &in, err));
    it->kind = natural(l, f, b, it, suffix);
    it->asked = out || !in;
    if (is_named(o, it->module))
        it->kind = LB_EXTRACT_KEPT;
    else if (out || (!in && !(it->kind == LB_EXTRACT_WHOLE && f->is_vocab)))
        it->kind = LB_EXTRACT_NONE;
    else if (it->kind == LB_EXTRACT_WHOLE && o->skip && !f->is_vocab)
        it->kind = LB_EXTRACT_NONE, it->asked = true;
    else if (it->kind == LB_EXTRACT_NONE && o->skip)
        it->asked = true;
    if (it->kind == LB_EXTRACT_NONE && it->asked)
        return LB_OK;
    if (!b && it->kind != LB_EXTRACT_KEPT)
        return lb_fail(err, LB_E_FORMAT,
                       "tensor '%.*s' is not in the base model (--save-module %.*s saves it whole, "
                       "--exclude-regex leaves it out)",
                       LB_FMT(it->name), LB_FMT(last_part(it->module)));
    bool grown =
        it->kind == LB_EXTRACT_WHOLE && f->is_vocab && b && !lb_shape_eq(&it->shape, &b->shape);
    if (grown) /* other tokens: saved whole without a look at the base's */
        it->kind = LB_EXTRACT_KEPT;
    return it->kind == LB_EXTRACT_KEPT ? LB_OK : check_shape(it, b, err);
}

/* Columns of the factors: the rank, and for the randomised ones half as many more, whole registers:
 * with three iterations what is left is within 1 % of the best for slow spectra too (ranks 16 and
 * 64 of 1024 values i^-0.1 .. i^-3, exponentials, flat ones with steps, a Gaussian matrix's: 0.8 %
 * at most; an eighth more and two iterations: 3.7 %). */
static u64 thin(const lb_extract_opts *o, const lb_shape *s) {
    u64 n = o->rank, least = LB_MIN(s->dim[0], s->dim[1]);
    if (!o->exact)
        n = (n + LB_MAX(n / 2, 16) + 15) / 16 * 16;
    return LB_MIN(n, least);
}

static lb_status add(lister *l, u32 fact, lb_err *err) {
    lb_extraction *x = l->x;
    const lb_merge_fact *f = &l->tuned->facts[fact], *b;
    lb_extract_item *it = &x->items[x->n];
    u32 base_fact = 0;
    *it = (lb_extract_item){.shape = f->shape, .dtype = f->dtype, .fact = fact, .norm = NAN};
    it->name = lb_arena_str(&x->perm, f->name);
    if (!it->name.ptr)
        return oom(err);
    b = find(l->base, it->name, &base_fact);
    it->base_fact = base_fact;
    LB_TRY(choose(l, f, b, it, err));
    if (it->kind == LB_EXTRACT_MATRIX) {
        bool conv1d = l->transposed && stands_transposed(l->tuned, it->name);
        x->conv1d |= conv1d;
        it->swapped = conv1d || it->embedding;
        it->n_thin = thin(x->opts, &it->shape);
        it->turned = x->opts->exact && it->shape.dim[0] < it->shape.dim[1];
    }
    x->n++;
    return LB_OK;
}

/* A bias goes with its matrix; where that is not in the adapter, the module is saved whole. */
static void settle_biases(lb_extraction *x) {
    for (u32 i = 0; i < x->n; i++) {
        lb_extract_item *it = &x->items[i];
        bool matrix = false;
        for (u32 k = 0; k < x->n && it->kind == LB_EXTRACT_BIAS; k++)
            matrix |= x->items[k].kind == LB_EXTRACT_MATRIX && !x->items[k].embedding &&
                      lb_str_eq(x->items[k].module, it->module);
        if (it->kind != LB_EXTRACT_BIAS || matrix)
            continue;
        it->kind = x->opts->skip ? LB_EXTRACT_NONE : LB_EXTRACT_WHOLE;
        it->asked = x->opts->skip;
    }
}

lb_status lb_extract_list(lb_extraction *x, const lb_merge_view *base, const lb_merge_view *tuned,
                          lb_err *err) {
    lister l = {.x = x, .base = base, .tuned = tuned, .transposed = any_transposed(tuned)};
    const lb_extract_opts *o = x->opts;
    u32 at;
    x->items = lb_arena_new(&x->perm, lb_extract_item, tuned->n + 1);
    lb_status st = x->items ? LB_OK : oom(err);
    if (st == LB_OK)
        st = compile(&x->perm, o->include, o->n_include, &l.patterns.include, err);
    if (st == LB_OK)
        st = compile(&x->perm, o->exclude, o->n_exclude, &l.patterns.exclude, err);
    for (u32 i = 0; i < tuned->n && st == LB_OK; i++)
        if (tuned->facts[i].same_as == LB_NO_FACT && !tuned->facts[i].is_buffer)
            st = add(&l, i, err);
    for (u32 i = 0; i < base->n && st == LB_OK; i++)
        if (base->facts[i].same_as == LB_NO_FACT && !base->facts[i].is_buffer &&
            !find(tuned, base->facts[i].name, &at))
            st = lb_fail(err, LB_E_FORMAT, "tensor '%.*s' of the base model is not in the model",
                         LB_FMT(base->facts[i].name));
    free_patterns(o, &l.patterns);
    if (st == LB_OK)
        settle_biases(x);
    return st;
}

/* ---- expressions ---- */

lb_node_id lb_extract_difference(lb_graph *g, const lb_extract_item *it, const lb_merge_view *base,
                                 const lb_merge_view *tuned) {
    return lb_expr_map2(g, LB_MAP_SUB, lb_expr_decode(g, tuned->nodes[it->fact]),
                        lb_expr_decode(g, base->nodes[it->base_fact]), LB_CONST(0));
}

lb_node_id lb_extract_factors(lb_graph *g, const lb_extraction *x, const lb_extract_item *it,
                              lb_node_id difference) {
    const lb_extract_opts *o = x->opts;
    lb_node_id turned = lb_expr_transpose(g, difference), q;
    if (o->exact) {
        lb_node_id d = it->turned ? turned : difference;
        q = lb_expr_dense(g, LB_DENSE_EIGEN, d, LB_NODE_NONE, (double)it->n_thin);
        return lb_expr_dense(g, LB_DENSE_SVD, lb_expr_product(g, d, q), q, 0);
    }
    q = lb_expr_normal(g, it->shape.dim[1], it->n_thin, o->seed);
    for (u32 i = 0; i < o->power; i++) {
        q = lb_expr_dense(g, LB_DENSE_ORTH, lb_expr_product(g, difference, q), LB_NODE_NONE, 0);
        q = lb_expr_dense(g, LB_DENSE_ORTH, lb_expr_product(g, turned, q), LB_NODE_NONE, 0);
    }
    return lb_expr_dense(g, LB_DENSE_SVD, lb_expr_product(g, difference, q), q, 0);
}

bool lb_extract_wants_norm(const lb_extraction *x, const lb_extract_item *it) {
    return it->kind == LB_EXTRACT_BIAS || it->kind == LB_EXTRACT_WHOLE ||
           (it->kind == LB_EXTRACT_NONE && !it->asked) ||
           (it->kind == LB_EXTRACT_MATRIX && x->opts->energy > 0);
}

lb_str lb_extract_factor_name(lb_arena *a, const lb_extract_item *it) {
    return lb_arena_printf(a, "%.*s.factors", LB_FMT(it->name));
}

lb_str lb_extract_norm_name(lb_arena *a, const lb_extract_item *it) {
    return lb_arena_printf(a, "%.*s.norm", LB_FMT(it->name));
}
