/* SPDX-License-Identifier: Apache-2.0 */
/* test_arch_meta.c: general.* against the reference (tests/golden/arch/meta.json): names of models,
 * titles, size labels, model cards. */
#include "arch/arch_internal.h"
#include "arch_util.h"
#include "test.h"

static bool same_part(lb_str got, const lb_json *want) {
    lb_str s;
    if (!lb_json_as_str(want, &s))
        return got.ptr == NULL;
    return got.ptr != NULL && lb_str_eq(got, s);
}

LB_TEST(names) {
    lb_arena a = {0};
    lb_err err = {0};
    lb_json *g = lb_json_get(arch_golden("meta.json", &a), "names");
    CHECK(g && g->n >= 500);
    for (const lb_json *c = g->first; c; c = c->next) {
        lb_model_id m;
        i64 n;
        const lb_json *v = c->first->next;
        CHECK(lb_json_as_i64(v, &n));
        CHECK_OK(lb_model_id_parse(c->first->text, n, &a, &m, &err));
        const lb_str got[] = {m.name,     m.organization, m.basename,
                              m.finetune, m.version,      m.size_label};
        for (size_t i = 0; i < LB_LEN(got); i++) {
            v = v->next;
            if (!same_part(got[i], v))
                lb_test_fail(
                    __FILE__, __LINE__, "'%.*s' (%lld): part %zu is '%.*s', expected '%.*s'",
                    LB_FMT(c->first->text), (long long)n, i, LB_FMT(got[i]), LB_FMT(v->text));
        }
    }
    lb_arena_deinit(&a);
}

LB_TEST(titles) {
    lb_arena a = {0};
    lb_json *g = lb_json_get(arch_golden("meta.json", &a), "titles");
    CHECK(g && g->n);
    for (const lb_json *c = g->first; c; c = c->next) {
        lb_str t = lb_model_id_title(c->first->text, &a);
        if (!lb_str_eq(t, c->last->text))
            lb_test_fail(__FILE__, __LINE__, "'%.*s', expected '%.*s'", LB_FMT(t),
                         LB_FMT(c->last->text));
    }
    lb_arena_deinit(&a);
}

LB_TEST(size_labels) {
    lb_arena a = {0};
    lb_json *g = lb_json_get(arch_golden("meta.json", &a), "labels");
    CHECK(g && g->n);
    for (const lb_json *c = g->first; c; c = c->next) {
        u64 total, shared, expert, n;
        const lb_json *v = c->first;
        CHECK(lb_json_as_u64(v, &total) && lb_json_as_u64(v = v->next, &shared) &&
              lb_json_as_u64(v = v->next, &expert) && lb_json_as_u64(v->next, &n));
        lb_str t = lb_model_size_label(n ? shared + expert : total, n, &a);
        if (!lb_str_eq(t, c->last->text))
            lb_test_fail(__FILE__, __LINE__, "'%.*s', expected '%.*s'", LB_FMT(t),
                         LB_FMT(c->last->text));
    }
    lb_arena_deinit(&a);
}

LB_TEST(cards) {
    lb_arena a = {0};
    lb_err err = {0}, card = {0};
    lb_json *g = lb_json_get(arch_golden("meta.json", &a), "cards");
    CHECK(g && g->n >= 30);
    for (const lb_json *c = g->first; c; c = c->next) {
        lb_gguf_meta m;
        lb_arch_meta_in in = {.config = arch_text(c, "config", &a),
                              .generation = arch_text(c, "generation", &a),
                              .readme = arch_str(c, "readme"),
                              .label = arch_str(c, "label"),
                              .card_err = &card};
        CHECK(lb_json_as_u64(lb_json_get(c, "n_params"), &in.n_params));
        lb_meta_init(&m, &a);
        card.code = LB_OK;
        CHECK_OK(lb_arch_meta_general(&in, &a, &m, &err));
        CHECK_U64(card.code, LB_OK);
        char what[96];
        snprintf(what, sizeof what, "card '%.80s'", in.readme.len ? in.readme.ptr : "");
        CHECK(arch_same_meta(what, &m, lb_json_get(c, "kv"), NULL));
        lb_meta_deinit(&m);
    }
    lb_arena_deinit(&a);
}

/* A card that is not YAML is passed over, and said so. */
LB_TEST(broken_card) {
    lb_arena a = {0};
    lb_err err = {0}, card = {0};
    lb_gguf_meta m;
    lb_arch_meta_in in = {.readme = LB_STR("---\nlicense: [mit\n---\n"),
                          .label = LB_STR("X-1B"),
                          .n_params = 1000000000,
                          .card_err = &card};
    lb_meta_init(&m, &a);
    CHECK_OK(lb_arch_meta_general(&in, &a, &m, &err));
    CHECK_U64(card.code, LB_E_FORMAT);
    CHECK(!lb_meta_find(&m, "general.license") && lb_meta_find(&m, "general.name"));
    in.card_err = NULL;
    CHECK_OK(lb_arch_meta_general(&in, &a, &m, &err));
    lb_meta_deinit(&m);
    lb_arena_deinit(&a);
}

LB_TEST_MAIN("fast")
