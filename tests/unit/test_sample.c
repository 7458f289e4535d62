/* SPDX-License-Identifier: Apache-2.0 */
/* Sampling: each step by what it must leave, order, state, refusals; log-probabilities. Equality
 * with llama.cpp is tests/peers/peer_sampling.py's. */
#include "base/cpu.h"
#include "model/logprob.h"
#include "model/sample.h"
#include "test.h"
#include <math.h>
#include <stdlib.h>

static lb_err err;
static lb_kernels kernels;

static lb_sampler *make(u32 n_vocab, const lb_sample_opts *o) {
    lb_sampler *s = NULL;
    lb_kernels_init(&kernels, lb_cpu_isa());
    lb_status st = lb_sampler_new(&s, n_vocab, o, &kernels, &err);
    LB_ASSERT(st == LB_OK);
    return s;
}

/* One step alone over the logarithms of p; the number left, tokens in out. */
static u32 left(const lb_sample_opts *o, const float *p, u32 n, u32 *out) {
    float logits[64];
    u32 token;
    for (u32 i = 0; i < n; i++)
        logits[i] = logf(p[i]);
    lb_sampler *s = make(n, o);
    LB_ASSERT(lb_sampler_sample(s, logits, NULL, &token, &err) == LB_OK);
    lb_sampled r = lb_sampler_last(s);
    u32 n_left = 0;
    for (u32 i = 0; i < r.n; i++)
        if (r.probs[i] > 0)
            out[n_left++] = r.tokens[i];
    lb_sampler_free(&s);
    return n_left;
}

static lb_sample_opts only(const char *order) {
    lb_sample_opts o = lb_sample_defaults();
    LB_ASSERT(lb_sample_order_parse(lb_str_c(order), &o, &err) == LB_OK);
    o.seed = 7;
    return o;
}

LB_TEST(steps_alone) {
    const float p[] = {0.1f, 0.2f, 0.3f, 0.4f};
    u32 t[64];
    lb_sample_opts o = only("top_k");
    o.top_k = 3;
    CHECK_U64(left(&o, p, 4, t), 3);
    CHECK(t[0] == 3 && t[1] == 2 && t[2] == 1);
    o = only("top_p");
    o.top_p = 0.75f; /* not 0.7: 0.4 + 0.3 may round to either side */
    CHECK_U64(left(&o, p, 4, t), 3);
    o.top_p = 0.65f;
    CHECK_U64(left(&o, p, 4, t), 2);
    o.top_p = 0;
    CHECK_U64(left(&o, p, 4, t), 1);
    o.min_keep = 2;
    CHECK_U64(left(&o, p, 4, t), 2);
    o = only("min_p");
    o.min_p = 0.26f;
    CHECK_U64(left(&o, p, 4, t), 3);
    o.min_p = 0.76f;
    CHECK_U64(left(&o, p, 4, t), 1);
    CHECK_U64(t[0], 3);
    o.min_keep = 3;
    CHECK_U64(left(&o, p, 4, t), 3);
    o = only("xtc");
    o.xtc_probability = 1;
    o.xtc_threshold = 0.15f;
    CHECK_U64(left(&o, p, 4, t), 2); /* of those above the threshold only the last stays */
    CHECK(t[0] == 1 && t[1] == 0);
    o.xtc_threshold = 0.45f;
    CHECK_U64(left(&o, p, 4, t), 4);
    o = only("temperature");
    o.temperature = 0;
    CHECK_U64(left(&o, p, 4, t), 1);
    CHECK_U64(t[0], 3);
    o = only("typ_p");
    const float q[] = {0.97f, 0.01f, 0.01f, 0.01f};
    o.typical = 0.5f;
    CHECK_U64(left(&o, q, 4, t), 1);
    CHECK_U64(t[0], 0);
    o = only("top_n_sigma");
    o.top_n_sigma = 1;
    CHECK_U64(left(&o, q, 4, t), 1);
}

LB_TEST(order_is_what_was_asked) {
    lb_sample_opts o = lb_sample_defaults();
    CHECK_U64(o.n_order, LB_SAMPLE_STEPS);
    CHECK_OK(lb_sample_order_parse(lb_str_c("temperature;top-k,typ_p"), &o, &err));
    CHECK(o.n_order == 3 && o.order[0] == LB_SAMPLE_TEMPERATURE && o.order[1] == LB_SAMPLE_TOP_K &&
          o.order[2] == LB_SAMPLE_TYPICAL);
    CHECK(lb_sample_order_parse(lb_str_c("top_k;infill"), &o, &err) == LB_E_USAGE);
    CHECK(strstr(err.msg, "\"infill\""));
    CHECK_OK(lb_sample_order_parse(lb_str_c(""), &o, &err));
    CHECK_U64(o.n_order, 0);
}

LB_TEST(penalties_and_window) {
    lb_sample_opts o = only("penalties");
    o.penalty_last_n = 3;
    o.penalty_repeat = 2;
    o.penalty_freq = 0.25f;
    o.penalty_present = 0.5f;
    lb_sampler *s = make(4, &o);
    const float logits[] = {1, -1, 2, 0.5f};
    u32 token;
    const u32 text[] = {3, 0, 1, 1}; /* 3 has left the window */
    for (u32 i = 0; i < 4; i++)
        lb_sampler_accept(s, text[i]);
    CHECK_OK(lb_sampler_sample(s, logits, NULL, &token, &err));
    lb_sampled r = lb_sampler_last(s);
    CHECK(r.logits[0] == 0.5f - 0.75f && r.logits[1] == -2.0f - 1.0f && r.logits[2] == 2 &&
          r.logits[3] == 0.5f);
    lb_sampler_reset(s);
    CHECK_OK(lb_sampler_sample(s, logits, NULL, &token, &err));
    CHECK(lb_sampler_last(s).logits[0] == 1);
    lb_sampler_free(&s);
}

/* The longest run before place i of text (of n tokens) that is also the end of text. */
static u32 repeat_at(const u32 *text, u32 n, u32 i, u32 limit) {
    u32 len = 0;
    while (len < i && len < limit && text[i - 1 - len] == text[n - 1 - len])
        len++;
    return len;
}

LB_TEST(dry_by_comparison) {
    for (u32 turn = 0; turn < 400; turn++) {
        u32 text[48], n = (u32)lb_test_rand_below(48) + 1, alphabet = 2 + turn % 3, token;
        const u32 head = 0;
        const lb_dry_breaker breaker = {&head, 1};
        lb_sample_opts o = only("dry");
        o.dry_multiplier = 1;
        o.dry_base = 1.5f;
        o.dry_allowed_length = 1 + turn % 2;
        o.dry_last_n = 48;
        o.breakers = &breaker;
        o.n_breakers = turn & 4 ? 1 : 0;
        lb_sampler *s = make(8, &o);
        for (u32 i = 0; i < n; i++) {
            text[i] = (u32)lb_test_rand_below(alphabet);
            lb_sampler_accept(s, text[i]);
        }
        u32 limit = n, longest[8] = {0};
        for (u32 i = 0; o.n_breakers && i < n; i++)
            if (!text[n - 1 - i]) {
                limit = i;
                break;
            }
        for (u32 i = 1; i < n; i++)
            longest[text[i]] = LB_MAX(longest[text[i]], repeat_at(text, n, i, limit));
        const float zeros[8] = {0};
        CHECK_OK(lb_sampler_sample(s, zeros, NULL, &token, &err));
        for (u32 i = 0; i < 8; i++) {
            bool hit = n > o.dry_allowed_length && longest[i] >= o.dry_allowed_length &&
                       !(o.n_breakers && i == 0) && limit >= o.dry_allowed_length;
            double want = hit ? -pow(1.5, longest[i] - o.dry_allowed_length) : 0;
            CHECK(fabs((double)lb_sampler_last(s).logits[i] - want) <= 1e-6 * fabs(want));
        }
        lb_sampler_free(&s);
    }
}

static lb_status letters(void *data, lb_str text, u32 *tokens, u32 max, u32 *n, lb_err *e) {
    (void)data, (void)e;
    *n = (u32)LB_MIN(text.len, (size_t)max);
    for (u32 i = 0; i < *n; i++)
        tokens[i] = (u32)(text.ptr[i] - 'a');
    return LB_OK;
}

LB_TEST(breakers_in_tokens) {
    const lb_str pieces[] = {LB_STR("a"), LB_STR("b"), LB_STR("xabc"), LB_STR("zza"),
                             LB_STR("aab")};
    const lb_dry_vocab v = {pieces, 5, letters, NULL};
    const lb_str text = LB_STR("abc");
    lb_arena a = {0};
    lb_dry_breaker *b;
    u32 n;
    CHECK_OK(lb_dry_breakers_make(&v, &text, 1, &a, &b, &n, &err));
    CHECK_U64(n, 4);
    CHECK(b[0].n == 3 && b[0].tokens[0] == 0 && b[0].tokens[1] == 1 && b[0].tokens[2] == 2);
    CHECK(b[1].n == 1 && b[1].tokens[0] == 2);
    CHECK(b[2].n == 3 && b[2].tokens[0] == 3);
    CHECK(b[3].n == 2 && b[3].tokens[0] == 4 && b[3].tokens[1] == 2);
    lb_arena_deinit(&a);
}

LB_TEST(draws_follow_the_probabilities) {
    lb_sample_opts o = only("");
    lb_sampler *s = make(4, &o);
    const float p[] = {0.1f, 0.2f, 0.3f, 0.4f};
    float logits[4];
    u32 count[4] = {0}, token;
    for (u32 i = 0; i < 4; i++)
        logits[i] = logf(p[i]);
    for (u32 i = 0; i < 20000; i++) {
        CHECK_OK(lb_sampler_sample(s, logits, NULL, &token, &err));
        count[token]++;
    }
    for (u32 i = 0; i < 4; i++)
        CHECK(fabs(count[i] / 20000.0 - (double)p[i]) < 0.02);
    lb_sampler_free(&s);
}

LB_TEST(a_seed_and_a_clone_repeat) {
    const u32 n = 50000;
    float *logits = malloc(n * sizeof *logits);
    CHECK(logits);
    lb_sample_opts o = only("top_p;temperature");
    o.top_p = 0.99f;
    lb_sampler *a = make(n, &o), *b = make(n, &o), *c = NULL;
    for (u32 turn = 0; turn < 8; turn++) {
        u32 x, y, z;
        for (u32 i = 0; i < n; i++)
            logits[i] = lb_test_normal() * 3;
        u64 allocated = lb_mem_count();
        CHECK_OK(lb_sampler_sample(a, logits, NULL, &x, &err));
        CHECK_OK(lb_sampler_sample(b, logits, NULL, &y, &err));
        CHECK_U64(lb_mem_count(), allocated);
        CHECK_U64(x, y);
        if (c) {
            CHECK_OK(lb_sampler_sample(c, logits, NULL, &z, &err));
            CHECK_U64(x, z);
        }
        lb_sampler_accept(a, x);
        lb_sampler_accept(b, x);
        lb_sampler_free(&c);
        CHECK_OK(lb_sampler_clone(&c, a, &err));
    }
    lb_sampler_free(&a);
    lb_sampler_free(&b);
    lb_sampler_free(&c);
    free(logits);
}

LB_TEST(masks_and_odd_logits) {
    lb_sample_opts o = lb_sample_defaults();
    float logits[70];
    u64 mask[2] = {0, 2};
    u32 token;
    for (u32 i = 0; i < 70; i++)
        logits[i] = (float)i;
    lb_sampler *s = make(70, &o);
    CHECK_OK(lb_sampler_sample(s, logits, mask, &token, &err));
    CHECK_U64(token, 65);
    mask[1] = 0;
    CHECK(lb_sampler_sample(s, logits, mask, &token, &err) == LB_E_NOT_FOUND);
    for (u32 i = 0; i < 70; i++)
        logits[i] = i % 2 ? NAN : -INFINITY;
    CHECK(lb_sampler_sample(s, logits, NULL, &token, &err) == LB_E_NOT_FOUND);
    logits[3] = INFINITY;
    CHECK_OK(lb_sampler_sample(s, logits, NULL, &token, &err));
    CHECK_U64(token, 3);
    lb_sampler_free(&s);
    o.mirostat = 2;
    s = make(70, &o);
    CHECK_OK(lb_sampler_sample(s, logits, NULL, &token, &err));
    CHECK_U64(token, 3);
    lb_sampler_free(&s);
}

/* ---- a few of the logits in place of all ---- */

static const float *sorted_by;
static int by_logit(const void *a, const void *b) {
    const u32 x = *(const u32 *)a, y = *(const u32 *)b;
    const float u = sorted_by[x], v = sorted_by[y]; /* no NaN here */
    return u > v ? -1 : u < v ? 1 : x < y ? -1 : 1;
}

/* What a device would give of logits for a need. */
typedef struct few {
    u32 id[512];
    float logit[512], touched[512], plain[512];
} few;

static lb_candidates pick(few *f, const float *logits, u32 n, const lb_sample_need *need) {
    for (u32 i = 0; i < n; i++) {
        f->id[i] = i;
        f->plain[i] = isnan(logits[i]) ? -INFINITY : LB_MIN(logits[i], 3.4028234663852886e38f);
    }
    sorted_by = f->plain;
    qsort(f->id, n, sizeof *f->id, by_logit);
    for (u32 i = 0; i < need->k; i++)
        f->logit[i] = f->plain[f->id[i]];
    for (u32 i = 0; i < need->n_touched; i++)
        f->touched[i] = logits[need->touched[i]];
    return (lb_candidates){need->k, f->id, f->logit, f->touched};
}

/* A hundred tokens by all logits, and by what the chain says that it needs; how often that is not
 * all of them. 1000: another token, or another error. */
static u32 both_ways(const lb_sample_opts *o, u32 n, u32 kind) {
    lb_sampler *all = make(n, o), *some = make(n, o);
    float logits[512];
    u32 n_few = 0, state = 17 * kind + o->n_order;
    static few f;
    for (u32 step = 0; step < 100; step++) {
        lb_sample_need need;
        u32 want = 0, got = 1;
        for (u32 i = 0; i < n; i++) {
            state = state * 1664525u + 1013904223u;
            const u32 r = state >> 8;
            logits[i] = kind == 0   ? (float)(r % 4096) / 300
                        : kind == 1 ? (float)(r % 5) - 2 /* many are equal */
                        : r % 11    ? (float)(r % 977) / 50 - 9
                                    : ((const float[]){NAN, INFINITY, -INFINITY, -0.0f})[r % 4];
        }
        const lb_status st = lb_sampler_sample(all, logits, NULL, &want, &err);
        lb_status other;
        if (lb_sampler_need(some, &need)) {
            LB_ASSERT(need.k <= n);
            const lb_candidates c = pick(&f, logits, n, &need);
            n_few++;
            other = lb_sampler_sample_from(some, &c, &got, &err);
        } else {
            other = lb_sampler_sample(some, logits, NULL, &got, &err);
        }
        if (other != st || got != want) {
            n_few = 1000;
            break;
        }
        lb_sampler_accept(all, want);
        lb_sampler_accept(some, want);
    }
    lb_sampler_free(&all);
    lb_sampler_free(&some);
    return n_few;
}

LB_TEST(few_logits_give_the_same) {
    static const lb_logit_bias bias[] = {{3, 4}, {250, -INFINITY}, {3, -1.5f}, {7, 2}};
    static const struct {
        const char *order; /* NULL: as it is */
        bool few;
    } chains[] = {{NULL, true},
                  {"penalties;top_k;temperature", true},
                  {"top_k;penalties;dry;top_p;temperature", true},
                  {"dry;top_k;typ_p;min_p;xtc;temperature", true},
                  {"temperature;top_k", false},
                  {"top_p;top_k;temperature", false},
                  {"top_p", false}};
    for (u32 i = 0; i < LB_LEN(chains); i++)
        for (u32 variant = 0; variant < 12; variant++) {
            lb_sample_opts o = chains[i].order ? only(chains[i].order) : lb_sample_defaults();
            o.seed = 7 + variant;
            o.top_k = variant % 3 ? (i32)(5 * variant) : 1;
            o.penalty_last_n = 20;
            o.penalty_repeat = variant % 2 ? 1.3f : 1;
            o.penalty_present = variant % 4 == 3 ? 0.5f : 0;
            o.dry_multiplier = variant % 4 == 2 ? 0.8f : 0;
            o.dry_allowed_length = 1;
            o.typical = variant == 5 ? 0.7f : 1;
            o.xtc_probability = variant == 6 ? 0.5f : 0;
            o.bias = bias;
            o.n_bias = variant % 5 == 1 ? LB_LEN(bias) : 0;
            for (u32 kind = variant % lb_test_stride(3); kind < 3; kind += lb_test_stride(3))
                CHECK_U64(both_ways(&o, kind ? 300 : 512, kind), chains[i].few ? 100 : 0);
        }
}

/* The largest logit alone, whatever stands in the chain that cannot drop it. */
LB_TEST(few_logits_of_the_largest) {
    lb_sample_need need;
    lb_sample_opts o = lb_sample_defaults();
    o.temperature = 0;
    for (u32 variant = 0; variant < 4; variant++) {
        o.top_k = variant % 2 ? 0 : 40;
        o.penalty_repeat = variant / 2 ? 1.5f : 1;
        for (u32 kind = 0; kind < 3; kind++)
            CHECK_U64(both_ways(&o, 300, kind), 100);
        lb_sampler *s = make(300, &o);
        CHECK(lb_sampler_need(s, &need) && need.k == 1 && !need.n_touched);
        lb_sampler_accept(s, 9);
        lb_sampler_accept(s, 9);
        CHECK(lb_sampler_need(s, &need) && need.k == 1 + variant / 2);
        lb_sampler_free(&s);
    }
    o.xtc_probability = 0.5f;
    o.top_k = 0;
    CHECK_U64(both_ways(&o, 300, 0), 0);
    o.xtc_probability = 0;
    o.mirostat = 2;
    CHECK_U64(both_ways(&o, 300, 0), 0);
    /* more tokens than are named */
    o = lb_sample_defaults();
    o.penalty_repeat = 1.1f;
    o.penalty_last_n = 4096;
    lb_sampler *s = make(2000, &o);
    for (u32 i = 0; i < 2000; i++)
        lb_sampler_accept(s, i);
    CHECK(!lb_sampler_need(s, &need));
    lb_sampler_free(&s);
}

LB_TEST(values_out_of_range) {
    lb_sampler *s;
    lb_sample_opts o = lb_sample_defaults();
    o.penalty_repeat = 0;
    CHECK(lb_sampler_new(&s, 4, &o, &kernels, &err) == LB_E_USAGE && !s);
    o = lb_sample_defaults();
    o.top_p = NAN;
    CHECK(lb_sampler_new(&s, 4, &o, &kernels, &err) == LB_E_USAGE && strstr(err.msg, "top-p"));
    o = lb_sample_defaults();
    o.mirostat = 1;
    CHECK(lb_sampler_new(&s, 4, &o, &kernels, &err) == LB_E_USAGE);
    const lb_logit_bias bias = {4, 1};
    o = lb_sample_defaults();
    o.bias = &bias;
    o.n_bias = 1;
    CHECK(lb_sampler_new(&s, 4, &o, &kernels, &err) == LB_E_USAGE);
}

LB_TEST(log_probabilities) {
    float x[1000];
    lb_token_logprob top[5];
    for (u32 turn = 0; turn < 20; turn++) {
        long double sum = 0;
        for (u32 i = 0; i < 1000; i++) {
            x[i] = lb_test_normal() * 10;
            sum += expl((long double)x[i]);
        }
        double lse = lb_log_sum_exp(&kernels, x, 1000);
        CHECK(fabsl((long double)lse - logl(sum)) < 1e-13L * (1 + fabsl(logl(sum))));
        CHECK_U64(lb_logprob_top(x, 1000, 5, lse, top), 5);
        for (u32 i = 0; i < 5; i++) {
            CHECK_U64(lb_logprob_rank(x, 1000, top[i].token), i);
            CHECK(fabs(top[i].logprob - ((double)x[top[i].token] - lse)) < 1e-12);
        }
    }
    for (double v = -740; v < 700; v += 0.37) {
        CHECK(fabsl((long double)lb_exp_f64(v) / expl((long double)v) - 1) <
              (v < -700 ? 1e-2L : 0x1p-50L));
        double y = exp(v);
        CHECK(v < -700 || fabsl((long double)lb_log_f64(y) - logl((long double)y)) <=
                              0x1p-50L * fabsl(logl((long double)y)) + 0x1p-60L);
    }
    const float none[] = {-INFINITY, NAN};
    CHECK(isinf(lb_log_sum_exp(&kernels, none, 2)));
    CHECK_U64(lb_logprob_top(none, 2, 3, lb_log_sum_exp(&kernels, none, 2), top), 2);
    CHECK(isinf(top[0].logprob) && top[0].logprob < 0);
}

LB_TEST_MAIN("fast")
