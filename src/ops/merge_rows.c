/* SPDX-License-Identifier: Apache-2.0 */
/* merge_rows.c: rows of tokens as nodes: each input's, in the order of the result's tokens. All
 * inputs are read for the result anyway; rows that one lacks are chosen from the others'. */
#include "ops/merge_vocab.h"

static lb_status oom(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for the rows of tokens");
}

lb_shape lb_merge_tokens_shape(const lb_vocab *v, const lb_merge_tensor *t, const lb_shape *shape) {
    lb_shape s = *shape;
    if (v->n_ids && t->is_vocab && s.rank)
        s.dim[0] = v->n_rows;
    return s;
}

typedef struct aligner {
    const lb_vocab *v;
    const lb_merge_job *j;
    lb_graph *g;
    const lb_vocab_rows *r;
    lb_merge_input *in;
    u32 n;
    bool is_vector; /* one value a token */
    u64 n_cols;
    lb_node_id *candidate; /* [2 * n + 2] */
} aligner;

/* A row for each token. */
static lb_node_id upright(const aligner *k, lb_node_id x) {
    return k->is_vector ? lb_expr_transpose(k->g, lb_expr_decode(k->g, x)) : x;
}

/* Rows from the first on are a slice, which is read as it lies. */
static lb_node_id gather(const aligner *k, lb_node_id x, const u64 *table) {
    u64 n = k->r->n_rows, i = 0;
    while (i < n && table[i] == i)
        i++;
    return i == n ? lb_expr_rows(k->g, x, 0, 1, n) : lb_expr_gather(k->g, x, table, n);
}

static lb_node_id values(const aligner *k, lb_node_id x) {
    return lb_merge_round(k->j, lb_expr_decode(k->g, x));
}

/* As torch adds them up: from zero on, each sum rounded. */
static lb_node_id mean(const aligner *k, lb_node_id zero) {
    lb_node_id sum = LB_NODE_NONE;
    for (u32 s = 0; s < k->n; s++) {
        lb_node_id x =
            lb_expr_choose(k->g, (lb_node_id[]){k->candidate[s], zero}, 2, k->r->part[s]);
        sum = s == 0 ? lb_expr_map1(k->g, LB_MAP_ADD_C, x, LB_CONST(0))
                     : lb_merge_round(k->j, lb_expr_map2(k->g, LB_MAP_ADD, sum, x, LB_CONST(0)));
    }
    lb_node_id count = lb_expr_const(k->g, k->r->n_rows, 1, k->r->count);
    return lb_merge_round(k->j, lb_expr_map2(k->g, LB_MAP_DIV, sum, count, LB_CONST(0)));
}

static void make_candidates(const aligner *k) {
    const lb_vocab_rows *r = k->r;
    for (u32 s = 0; s < k->n; s++) {
        lb_node_id x = upright(k, k->in[s].x);
        lb_node_id own = r->table[s] ? gather(k, x, r->table[s]) : x;
        k->candidate[s] = values(k, own);
        k->candidate[k->n + s] = r->second[s] ? values(k, gather(k, x, r->second[s]))
                                              : k->candidate[s]; /* never chosen */
    }
    lb_node_id zero = lb_expr_fill(k->g, 1, k->n_cols, 0);
    k->candidate[LB_VOCAB_ZERO(k->n)] = zero;
    k->candidate[LB_VOCAB_MEAN(k->n)] = r->part ? mean(k, zero) : zero;
}

/* Rows of padding are the mean of all tokens'. */
static lb_status pad(const aligner *k, lb_node_id *x, lb_err *err) {
    u64 n_ids = k->v->n_ids, n_rows = k->r->n_rows;
    if (n_ids == n_rows)
        return LB_OK;
    float *which = lb_alloc_zero((size_t)n_rows, sizeof *which);
    if (!which)
        return oom(err);
    for (u64 i = n_ids; i < n_rows; i++)
        which[i] = 1;
    lb_node_id tokens = lb_expr_rows(k->g, *x, 0, 1, n_ids);
    lb_node_id sums =
        lb_expr_results(k->g, lb_expr_stat(k->g, LB_STAT_COLS, tokens, LB_NODE_NONE, 0));
    lb_node_id all =
        lb_expr_map1(k->g, LB_MAP_DIV_C, lb_merge_round(k->j, sums), LB_CONST((double)n_ids));
    *x = lb_expr_choose(k->g, (lb_node_id[]){*x, lb_merge_round(k->j, all)}, 2, which);
    lb_free(which);
    return LB_OK;
}

/* What is stored stays so where all rows are the model's own. */
static lb_status align_one(const aligner *k, u32 s, lb_err *err) {
    const lb_vocab_rows *r = k->r;
    lb_node_id x = k->in[s].x;
    if (!r->which[s] && !r->table[s])
        return LB_OK;
    if (!r->which[s] && !k->is_vector) {
        k->in[s].x = gather(k, x, r->table[s]);
        return LB_OK;
    }
    x = k->candidate[s];
    if (r->which[s])
        x = lb_expr_choose(k->g, k->candidate, 2 * k->n + 2, r->which[s]);
    LB_TRY(pad(k, &x, err));
    k->in[s].x = k->is_vector ? lb_expr_transpose(k->g, x) : x;
    return LB_OK;
}

lb_status lb_merge_tokens_align(const lb_vocab *v, const lb_merge_config *c,
                                const lb_merge_tensor *t, const lb_merge_job *j, lb_merge_input *in,
                                lb_err *err) {
    lb_arena scratch = {0};
    lb_vocab_rows rows;
    u32 n = t->n_slots;
    lb_vocab_slot *slots = lb_arena_new(&scratch, lb_vocab_slot, n);
    lb_node_id *candidate = lb_arena_new(&scratch, lb_node_id, 2 * (u64)n + 2);
    lb_status st = slots && candidate ? lb_graph_status(j->g, err) : oom(err);
    aligner k = {.v = v, .j = j, .g = j->g, .r = &rows, .in = in, .n = n, .candidate = candidate};
    for (u32 i = 0; i < n && st == LB_OK; i++) {
        const lb_node *x = lb_graph_node(j->g, in[i].x);
        k.is_vector = j->shape->rank == 1;
        k.n_cols = k.is_vector ? 1 : x->n_cols;
        slots[i] = (lb_vocab_slot){.model = t->slots[i].model,
                                   .is_base = t->slots[i].model == t->base,
                                   .n_rows = k.is_vector ? x->n_cols : x->n_rows};
    }
    if (st == LB_OK)
        st = lb_vocab_rows_make(&rows, v, c, &(lb_vocab_tensor){t->name, slots, n}, &scratch, err);
    bool chosen = k.is_vector;
    for (u32 i = 0; i < n && st == LB_OK; i++)
        chosen |= rows.which[i] != NULL;
    if (st == LB_OK && chosen)
        make_candidates(&k);
    for (u32 i = 0; i < n && st == LB_OK; i++) {
        st = align_one(&k, i, err);
        in[i].dtype = j->work;
    }
    lb_arena_deinit(&scratch);
    return st == LB_OK ? lb_graph_status(j->g, err) : st;
}
