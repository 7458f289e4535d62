/* SPDX-License-Identifier: Apache-2.0 */
/* vocab_rows.c: the rows of one matrix of tokens: own ones, and what stands for those that a model
 * has not (assign_embedding_sources and compute_default_embedding of mergekit's
 * tokenizer/embed.py). */
#include "merge/vocab.h"

typedef struct maker {
    const lb_vocab *v;
    const lb_merge_config *c;
    const lb_vocab_slot *slots;
    u32 n;
    lb_str name;
    lb_arena *perm;
    lb_err *err;
    lb_vocab_rows *r;
    u32 base; /* slot; n: none */
} maker;

/* What models without the token have in its place. */
typedef enum kind { KIND_NONE, KIND_ZERO, KIND_MEAN, KIND_ROW } kind;
typedef struct stand_in {
    kind kind;
    u32 slot, row; /* KIND_ROW */
    bool force;    /* those that have it too */
} stand_in;

static lb_status oom(const maker *k) {
    return lb_fail(k->err, LB_E_NOMEM, "%.*s: out of memory for the vocabulary",
                   LB_FMT(k->c->what));
}

static u32 own_row(const maker *k, u32 slot, u64 id) {
    u32 row = k->v->row[k->slots[slot].model][id];
    return row < k->slots[slot].n_rows ? row : LB_NO_ROW;
}

/* Whoever binds the merge names the file. */
static lb_status refuse(const maker *k, const lb_vocab_rule *r, const char *why) {
    lb_str model = k->c->models[r->model].text;
    if (!r->said)
        return lb_fail(k->err, LB_E_FORMAT, "tensor '%.*s': id %u without a token %s %.*s",
                       LB_FMT(k->name), r->id, why, LB_FMT(model));
    return lb_fail(k->err, LB_E_FORMAT, "line %u: tokens: '%.*s': tensor '%.*s': %s %.*s",
                   r->said->line, LB_FMT(r->said->token), LB_FMT(k->name), why, LB_FMT(model));
}

/* By the rules for tokens of which the file says nothing. */
static stand_in usual(const maker *k, u64 id) {
    u32 n = 0, only = 0;
    for (u32 s = 0; s < k->n; s++)
        if (own_row(k, s, id) != LB_NO_ROW && n++ == 0)
            only = s;
    if (n == 0)
        return (stand_in){.kind = KIND_ZERO};
    if (n > 1 && k->base < k->n && own_row(k, k->base, id) != LB_NO_ROW) {
        only = k->base;
        n = 1;
    }
    return n == 1 ? (stand_in){.kind = KIND_ROW, .slot = only, .row = own_row(k, only, id)}
                  : (stand_in){.kind = KIND_MEAN};
}

static bool is_everywhere(const maker *k, u64 id) {
    for (u32 s = 0; s < k->n; s++)
        if (own_row(k, s, id) == LB_NO_ROW)
            return false;
    return true;
}

static lb_status by_rule(const maker *k, const lb_vocab_rule *r, stand_in *out) {
    u32 s = 0;
    if (r->from == LB_TOKEN_USUAL)
        *out = usual(k, r->id);
    else if (r->from == LB_TOKEN_ZERO)
        *out = (stand_in){.kind = KIND_ZERO};
    if (r->from == LB_TOKEN_USUAL || r->from == LB_TOKEN_ZERO)
        return LB_OK;
    while (s < k->n && k->slots[s].model != r->model)
        s++;
    if (s == k->n)
        return r->said ? refuse(k, r, "is missing in") : LB_OK; /* of a hole: nothing */
    if (r->row >= k->slots[s].n_rows)
        return refuse(k, r, "there is no such row in");
    *out = (stand_in){.kind = KIND_ROW, .slot = s, .row = r->row};
    return LB_OK;
}

/* rule: NULL, none. */
static lb_status find_stand_in(const maker *k, u64 id, const lb_vocab_rule *rule, stand_in *out) {
    *out = (stand_in){.kind = KIND_NONE};
    if (is_everywhere(k, id) && !(rule && rule->force))
        return LB_OK;
    *out = usual(k, id);
    if (rule) {
        *out = (stand_in){.kind = KIND_ZERO};
        LB_TRY(by_rule(k, rule, out));
        out->force = rule->force;
    }
    return LB_OK;
}

/* Of slot s, on demand: each row its own. */
static bool need_which(maker *k, u32 s) {
    float *w = k->r->which[s];
    if (w)
        return true;
    w = k->r->which[s] = lb_arena_new(k->perm, float, k->r->n_rows);
    for (u64 i = 0; w && i < k->r->n_rows; i++)
        w[i] = (float)s;
    return w != NULL;
}

static bool need_mean(maker *k) {
    if (k->r->part)
        return true;
    k->r->part = lb_arena_new(k->perm, float *, k->n);
    k->r->count = lb_arena_new(k->perm, float, k->r->n_rows);
    for (u32 s = 0; k->r->part && s < k->n; s++) {
        if (!(k->r->part[s] = lb_arena_new(k->perm, float, k->r->n_rows)))
            return false;
        for (u64 i = 0; i < k->r->n_rows; i++)
            k->r->part[s][i] = 1;
    }
    for (u64 i = 0; k->r->count && i < k->r->n_rows; i++)
        k->r->count[i] = 1;
    return k->r->part && k->r->count;
}

static bool set_mean(maker *k, u64 id) {
    if (!need_mean(k))
        return false;
    float n = 0;
    for (u32 s = 0; s < k->n; s++)
        if (own_row(k, s, id) != LB_NO_ROW) {
            k->r->part[s][id] = 0;
            n++;
        }
    k->r->count[id] = n;
    return true;
}

/* The candidate that is row `row` of a slot: in its table, or beside it where that has another row
 * of use. */
static bool set_row(maker *k, const stand_in *in, u64 id, float *candidate) {
    u32 own = own_row(k, in->slot, id), s = in->slot;
    *candidate = (float)s;
    if (own == in->row)
        return true;
    if (own == LB_NO_ROW) {
        k->r->table[s][id] = in->row;
        return true;
    }
    if (!k->r->second[s]) {
        k->r->second[s] = lb_arena_new(k->perm, u64, k->r->n_rows);
        if (!k->r->second[s])
            return false;
        for (u64 i = 0; i < k->r->n_rows; i++)
            k->r->second[s][i] = UINT64_MAX;
    }
    k->r->second[s][id] = in->row;
    *candidate = (float)(k->n + s);
    return true;
}

static lb_status set_token(maker *k, u64 id, const lb_vocab_rule *rule) {
    stand_in in;
    float candidate = 0;
    LB_TRY(find_stand_in(k, id, rule, &in));
    for (u32 s = 0; s < k->n; s++) {
        u32 own = own_row(k, s, id);
        if (own != LB_NO_ROW)
            k->r->table[s][id] = own;
    }
    if (in.kind == KIND_NONE)
        return LB_OK;
    k->r->zero |= in.kind == KIND_ZERO;
    if (in.kind == KIND_ZERO)
        candidate = (float)LB_VOCAB_ZERO(k->n);
    if (in.kind == KIND_MEAN)
        candidate = (float)LB_VOCAB_MEAN(k->n);
    if ((in.kind == KIND_MEAN && !set_mean(k, id)) ||
        (in.kind == KIND_ROW && !set_row(k, &in, id, &candidate)))
        return oom(k);
    for (u32 s = 0; s < k->n; s++) {
        if (own_row(k, s, id) != LB_NO_ROW && !in.force)
            continue;
        if (candidate == (float)s) /* own, or set in its table */
            continue;
        if (!need_which(k, s))
            return oom(k);
        k->r->which[s][id] = candidate;
    }
    return LB_OK;
}

static bool set_padding(maker *k) {
    for (u32 s = 0; s < k->n && k->v->n_ids < k->r->n_rows; s++) {
        if (!need_which(k, s))
            return false;
        for (u64 i = k->v->n_ids; i < k->r->n_rows; i++)
            k->r->which[s][i] = (float)LB_VOCAB_ZERO(k->n);
        k->r->zero = true;
    }
    return true;
}

/* Rows that nobody wants are those that cost least to read. */
static void fill_gaps(u64 *table, u64 n, u64 n_rows) {
    u64 last = 0;
    for (u64 i = 0; i < n; i++) {
        if (table[i] == UINT64_MAX)
            table[i] = i < n_rows && (i == 0 || last + 1 == i) ? i : last;
        last = table[i];
    }
}

static bool is_as_it_is(const u64 *table, u64 n, u64 n_rows) {
    for (u64 i = 0; i < n; i++)
        if (table[i] != i)
            return false;
    return n == n_rows;
}

static lb_status begin(maker *k) {
    lb_vocab_rows *r = k->r;
    r->table = lb_arena_new(k->perm, u64 *, k->n);
    r->second = lb_arena_new(k->perm, u64 *, k->n);
    r->which = lb_arena_new(k->perm, float *, k->n);
    if (!r->table || !r->second || !r->which)
        return oom(k);
    for (u32 s = 0; s < k->n; s++) {
        if (!(r->table[s] = lb_arena_new(k->perm, u64, r->n_rows)))
            return oom(k);
        for (u64 i = 0; i < r->n_rows; i++)
            r->table[s][i] = UINT64_MAX;
        if (k->slots[s].is_base)
            k->base = s;
    }
    return LB_OK;
}

lb_status lb_vocab_rows_make(lb_vocab_rows *r, const lb_vocab *v, const lb_merge_config *c,
                             const lb_vocab_tensor *t, lb_arena *perm, lb_err *err) {
    *r = (lb_vocab_rows){.n_rows = v->n_rows};
    maker k = {.v = v,
               .c = c,
               .slots = t->slots,
               .n = t->n,
               .name = t->name,
               .perm = perm,
               .err = err,
               .r = r,
               .base = t->n};
    LB_TRY(begin(&k));
    u64 rule = 0;
    for (u64 i = 0; i < v->n_ids; i++) {
        while (rule < v->n_rules && v->rules[rule].id < i)
            rule++;
        bool has = rule < v->n_rules && v->rules[rule].id == i;
        LB_TRY(set_token(&k, i, has ? &v->rules[rule] : NULL));
    }
    if (!set_padding(&k))
        return oom(&k);
    for (u32 s = 0; s < t->n; s++) {
        fill_gaps(r->table[s], r->n_rows, t->slots[s].n_rows);
        if (r->second[s])
            fill_gaps(r->second[s], r->n_rows, t->slots[s].n_rows);
        if (is_as_it_is(r->table[s], r->n_rows, t->slots[s].n_rows))
            r->table[s] = NULL;
    }
    return LB_OK;
}
