/* SPDX-License-Identifier: Apache-2.0 */
/* sample_dry.c: DRY, a penalty on tokens that go on with a repetition ("Don't Repeat Yourself", by
 * p-e-w, text-generation-webui #5677), and the breakers of repetitions as tokens.
 *
 * Seen from the end of the window, the length of the common run with the end is the Z function of
 * the reversed window (D. Gusfield, 1997): linear time. */
#include "model/sample_internal.h"

/* The i-th token from the end. */
static u32 back(const lb_sampler *s, u32 i) {
    u32 cap = s->o.dry_last_n;
    return s->dry_window[(s->dry_at + cap - 1 - i) % cap];
}

/* How many tokens at the end may be taken for a repetition: those behind the last breaker. */
static u32 limit_of(const lb_sampler *s) {
    for (u32 i = 0; i < s->dry_n; i++) {
        bool any = false;
        u32 longest = 0;
        for (u32 b = s->first_breaker ? s->first_breaker[back(s, i)] : 0; b;
             b = s->next_breaker[b - 1]) {
            const lb_dry_breaker *x = &s->o.breakers[b - 1];
            u32 tail = x->n - 1, j = 0;
            if (tail > i || (any && tail <= longest))
                continue;
            while (j < tail && x->tokens[1 + j] == back(s, i - j - 1))
                j++;
            if (j == tail) {
                any = true;
                longest = tail;
            }
        }
        if (any)
            return i - longest;
    }
    return s->dry_n;
}

/* dry_len[k]: how many tokens, going back from the end, are those going back from place k (from the
 * end too), at most limit. */
static void find_repeats(lb_sampler *s, u32 limit) {
    const u32 n = s->dry_n;
    u32 left = 0, right = 0; /* the run that reaches furthest: [left, right) */
    for (u32 k = 1; k < n; k++) {
        u32 len = 0;
        if (k < right) {
            len = LB_MIN(s->dry_len[k - left], right - k);
            if (len < right - k) { /* also where it was cut at the limit */
                s->dry_len[k] = len;
                continue;
            }
        }
        while (k + len < n && back(s, len) == back(s, k + len))
            len++;
        if (k + len > right) {
            left = k;
            right = k + len;
        }
        s->dry_len[k] = LB_MIN(len, limit);
    }
}

static double power(double base, u32 exponent) {
    double r = 1;
    for (; exponent; exponent >>= 1, base *= base)
        if (exponent & 1)
            r *= base;
    return r;
}

static bool breaks_alone(const lb_sampler *s, u32 token) {
    for (u32 b = s->first_breaker ? s->first_breaker[token] : 0; b; b = s->next_breaker[b - 1])
        if (s->o.breakers[b - 1].n == 1)
            return true;
    return false;
}

static float penalty(const lb_sampler *s, u32 token, u32 max_exponent) {
    u32 exponent = s->dry_longest[token] - s->o.dry_allowed_length;
    if (max_exponent && exponent > max_exponent)
        exponent = max_exponent;
    return (float)((double)s->o.dry_multiplier * power((double)s->o.dry_base, exponent));
}

void lb_sample_dry(lb_sampler *s) {
    const lb_sample_opts *o = &s->o;
    if (o->dry_multiplier == 0 || o->dry_base < 1 || !o->dry_last_n ||
        s->dry_n <= o->dry_allowed_length)
        return;
    const u32 limit = limit_of(s);
    if (limit < o->dry_allowed_length)
        return;
    find_repeats(s, limit);
    s->dry_n_touched = 0;
    for (u32 k = 1; k < s->dry_n; k++) {
        u32 len = s->dry_len[k];
        if (len < o->dry_allowed_length)
            continue;
        u32 next = back(s, k - 1); /* what came behind the earlier run */
        if (!s->dry_longest[next])
            s->dry_touched[s->dry_n_touched++] = next;
        /* One more, so that zero says "none" where the allowed length is zero. */
        s->dry_longest[next] = LB_MAX(s->dry_longest[next], len + 1);
    }
    u32 max_exponent = 0;
    if (o->dry_base > 1.000001f) {
        float log_base;
        s->k->map_log_f32(1, &log_base, &o->dry_base);
        max_exponent = (u32)(88.7228391f / log_base); /* log of the largest float */
    }
    for (u32 i = 0; i < s->dry_n_touched; i++)
        s->dry_longest[s->dry_touched[i]]--;
    for (u32 i = 0; s->dense && i < s->dry_n_touched; i++) {
        u32 t = s->dry_touched[i];
        if (!breaks_alone(s, t))
            s->logit[t] -= penalty(s, t, max_exponent);
    }
    if (!s->dense) {
        for (u32 i = 0; i < s->dry_n_touched; i++)
            s->dry_longest[s->dry_touched[i]] |= 0x80000000u;
        for (u32 i = 0; i < s->n; i++) {
            u32 t = s->id[i];
            if (!(s->dry_longest[t] & 0x80000000u) || breaks_alone(s, t))
                continue;
            s->dry_longest[t] &= 0x7fffffffu;
            s->logit[i] -= penalty(s, t, max_exponent);
        }
    }
    for (u32 i = 0; i < s->dry_n_touched; i++)
        s->dry_longest[s->dry_touched[i]] = 0;
    s->sorted = false;
}

/* ---- breakers ---- */

#define BREAKER_BYTES_MAX 40 /* llama.cpp: a longer text is cut there */
#define TAIL_MAX 20          /* tokens behind the head; more are cut */

typedef struct breaker_list {
    lb_arena *perm;
    lb_buf items; /* of lb_dry_breaker */
} breaker_list;

static lb_status add_breaker(breaker_list *l, size_t since, const u32 *tokens, u32 n, lb_err *err) {
    const lb_dry_breaker *have = (const lb_dry_breaker *)(const void *)l->items.ptr;
    for (size_t i = since; i < l->items.len / sizeof *have; i++)
        if (have[i].n == n && !memcmp(have[i].tokens, tokens, n * sizeof *tokens))
            return LB_OK;
    u32 *copy = lb_arena_new(l->perm, u32, n);
    if (!copy)
        return lb_fail(err, LB_E_NOMEM, "sequence breakers: out of memory");
    memcpy(copy, tokens, n * sizeof *copy);
    lb_dry_breaker b = {copy, n};
    lb_buf_put(&l->items, &b, sizeof b);
    return lb_buf_status(&l->items, err);
}

static lb_status breakers_of_token(const lb_dry_vocab *v, u32 token, lb_str text, breaker_list *l,
                                   lb_err *err) {
    lb_str piece = v->pieces[token];
    size_t pos;
    u32 tokens[TAIL_MAX + 1] = {token};
    if (lb_str_find(piece, text, &pos))
        return add_breaker(l, l->items.len / sizeof(lb_dry_breaker), tokens, 1, err);
    const size_t since = l->items.len / sizeof(lb_dry_breaker);
    for (size_t at = 0; at < piece.len; at++) {
        size_t n = piece.len - at;
        if (n >= text.len || memcmp(piece.ptr + at, text.ptr, n))
            continue;
        u32 n_tail = 0;
        LB_TRY(v->tokenize(v->data, lb_str_sub(text, n, text.len), tokens + 1, TAIL_MAX, &n_tail,
                           err));
        LB_TRY(add_breaker(l, since, tokens, 1 + LB_MIN(n_tail, TAIL_MAX), err));
    }
    return LB_OK;
}

lb_status lb_dry_breakers_make(const lb_dry_vocab *v, const lb_str *texts, u32 n_texts,
                               lb_arena *perm, lb_dry_breaker **out, u32 *n_out, lb_err *err) {
    breaker_list l = {.perm = perm};
    lb_status st = LB_OK;
    for (u32 i = 0; i < n_texts; i++) {
        lb_str text = lb_str_sub(texts[i], 0, BREAKER_BYTES_MAX);
        for (u32 t = 0; text.len && t < v->n_vocab; t++)
            LB_TRY_DONE(st, breakers_of_token(v, t, text, &l, err));
    }
    const u64 n = l.items.len / sizeof(lb_dry_breaker);
    *out = lb_arena_new(perm, lb_dry_breaker, n + 1);
    if (!*out) {
        st = lb_fail(err, LB_E_NOMEM, "sequence breakers: out of memory");
        goto done;
    }
    if (n)
        memcpy(*out, l.items.ptr, l.items.len);
    *n_out = (u32)n;
done:
    lb_buf_deinit(&l.items);
    return st;
}
