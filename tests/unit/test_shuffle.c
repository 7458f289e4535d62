/* SPDX-License-Identifier: Apache-2.0 */
/* test_shuffle.c: merges of layers drawn at random: the draws are Python's, what a file says, what
 * is refused. */
#include "merge/config.h"
#include "merge/shuffle.h"
#include "test.h"

static lb_arena arena;
static lb_err err;

/* "model first end" of each slice of the merge file that comes out. */
static lb_str slices_of(const lb_shuffle *s, u64 seed) {
    lb_buf yaml = {0}, out = {0};
    lb_merge_file f;
    lb_arena_reset(&arena);
    err = (lb_err){0};
    if (lb_shuffle_make(s, seed, &yaml, &err) == LB_OK &&
        lb_merge_file_parse(lb_buf_str(&yaml), "made", 0, &arena, &f, &err) == LB_OK) {
        const lb_merge_config *c = &f.merges[0];
        for (u32 i = 0; i < c->modules[0].n_slices; i++) {
            const lb_merge_source *x = &c->modules[0].slices[i].sources[0];
            lb_buf_printf(&out, "%.*s %llu %llu;", LB_FMT(c->models[x->model].text),
                          (unsigned long long)x->first, (unsigned long long)x->end);
        }
    }
    lb_str r = lb_arena_str(&arena, lb_buf_str(&out));
    lb_buf_deinit(&yaml);
    lb_buf_deinit(&out);
    return r;
}

/* Made with Python 3.11:
 *   random.seed(SEED)
 *   [random.choices("abc", weights=[0.7, 0.3, 1], k=1)[0] for _ in range(12)]
 * and runs of one letter joined. */
LB_TEST(draws_are_pythons) {
    lb_shuffle_model m[] = {
        {LB_STR("a"), 0.7, 12, 0}, {LB_STR("b"), 0.3, 12, 0}, {LB_STR("c"), 1, 20, 0}};
    lb_shuffle s = {.models = m, .n_models = 3};
    CHECK_STR(slices_of(&s, 0), "c 0 2;b 2 3;a 3 4;c 4 5;b 5 6;c 6 7;a 7 8;b 8 9;c 9 12;");
    CHECK_STR(slices_of(&s, 3), "a 0 1;c 1 2;b 2 3;c 3 5;a 5 7;c 7 8;a 8 10;c 10 11;b 11 12;");
    CHECK_STR(slices_of(&s, 1099511627777), /* of two digits */
              "a 0 1;c 1 4;a 4 5;c 5 7;b 7 9;a 9 10;c 10 12;");
}

/*   random.seed(5); out = [("a", random.randrange(0, 9)) for _ in range(int(9 * 0.5))]
 *   out += [("b", random.randrange(0, 13)) for _ in range(int(13 * 0.25))]
 *   random.shuffle(out) */
LB_TEST(any_layer_at_any_place) {
    lb_shuffle_model m[] = {{LB_STR("a"), 0.5, 9, 0}, {LB_STR("b"), 0.25, 13, 0}};
    lb_shuffle s = {.models = m, .n_models = 2, .full_random = true};
    CHECK_STR(slices_of(&s, 5), "a 0 1;a 8 9;b 7 8;b 3 4;a 5 6;a 4 5;b 12 13;");
}

LB_TEST(names_are_quoted) {
    lb_shuffle_model m[] = {{LB_STR("a: \"b\"\\ #\n"), 1, 2, 0}};
    lb_shuffle s = {.models = m, .n_models = 1, .dtype = LB_STR("float16")};
    CHECK_STR(slices_of(&s, 0), "a: \"b\"\\ #\n 0 2;");
}

static void refused(const lb_shuffle *s, const char *why) {
    (void)slices_of(s, 0);
    CHECK_STR(lb_str_c(err.msg), why);
}

LB_TEST(what_cannot_be_drawn) {
    lb_shuffle_model m[] = {{LB_STR("a"), 1, 4, 0}, {LB_STR("b"), 1, 3, 7}};
    lb_shuffle s = {.models = m, .n_models = 2};
    refused(&s, "line 7: 'b': it has fewer layers than the first model");
    m[1].weight = -1;
    refused(&s, "line 7: 'b': its weight is below 0 or no number");
    m[0].weight = m[1].weight = 0;
    refused(&s, "the sum of the weights is 0: no model can be drawn");
    s.full_random = true;
    m[0].weight = 0.2;
    refused(&s, "no layer is taken: full_random takes weight x layers of each model");
    m[0].weight = 99999;
    refused(&s, "more than 100000 layers");
}

static const char *parse(const char *text, lb_shuffle *s) {
    lb_arena_reset(&arena);
    err = (lb_err){0};
    lb_status st = lb_shuffle_parse(lb_str_c(text), "s.yml", &arena, s, &err);
    return st == LB_OK ? "" : err.msg;
}

LB_TEST(the_file) {
    lb_shuffle s;
    CHECK_STR(lb_str_c(parse("models: [{model: a, weight: 1e-1}, {model: b}]\nrandom_seed: 9\n"
                             "full_random: yes\ndtype: bfloat16\n",
                             &s)),
              "");
    CHECK(s.n_models == 2 && s.models[0].weight == 0.1 && s.models[1].weight == 1);
    CHECK(s.full_random && s.has_seed && s.seed == 9);
    CHECK_STR(s.dtype, "bfloat16");
    static const char *const bad[][2] = {
        {"modles: []", "s.yml: line 1: modles: unknown key; did you mean models?"},
        {"full_random: true", "s.yml: line 1: `models` is missing"},
        {"models: []", "s.yml: line 1: models: a list of models is needed"},
        {"models:\n- weight: 1", "s.yml: line 2: models[0]: `model` is missing"},
        {"models:\n- {model: a, weight: x}", "s.yml: line 2: models[0].weight: a number is needed"},
        {"models: [{model: a}]\nrandom_seed: -1",
         "s.yml: line 2: random_seed: a whole number from 0 is needed"},
        {"models: [{model: a}]\nfull_random: 3",
         "s.yml: line 2: full_random: true or false is needed"},
        {"models: [{model: a}]\ndtype: bf16",
         "s.yml: line 2: dtype: 'bf16' is none of bfloat16, float16, float32, float64; did you "
         "mean bfloat16?"},
        {"- a", "s.yml: line 1: a mapping with the keys models, full_random... is needed"},
    };
    for (u32 i = 0; i < LB_LEN(bad); i++)
        CHECK_STR(lb_str_c(parse(bad[i][0], &s)), bad[i][1]);
    lb_arena_deinit(&arena);
}

LB_TEST_MAIN("fast")
