/* SPDX-License-Identifier: Apache-2.0 */
/* test_transplant.c: which row a token gets, atoms and their coefficients, weights of neighbours,
 * what configs say of tokens. */
#include "test.h"
#include "merge/gauss.h"
#include "merge/landmarks.h"
#include "merge/pursuit.h"
#include "merge/rope.h"
#include "merge/transplant.h"
#include "merge/transplant_files.h"
#include <math.h>
#include <stdlib.h>

#define MARK "\xe2\x96\x81" /* SentencePiece's */
#define BLANK "\xc4\xa0"    /* a blank in the alphabet of bytes */
#define NEWLINE "\xc4\x8a"  /* the same of a line feed */

static lb_arena arena;
static lb_token_set pieces, bytes; /* of both kinds */
static lb_kernels kernels;
static lb_err err;

static void put(lb_token_set *t, u64 id, const char *text, const char *role, bool added) {
    lb_token k = {.id = id, .text = lb_str_c(text), .role = role, .added = added};
    CHECK_OK(lb_token_set_put(t, &k, &err));
}

static void make_sets(void) {
    static const char *const a[] = {"<unk>", "<s>", "</s>", "<0x41>", "<0xC3>", MARK "the", "ing",
                                    "th",    "A",   "é",    MARK,     MARK "t", "<mask>"};
    static const char *const b[] = {"<|end|>",  BLANK "the", "ing",    "things",    "a",
                                    "\xc3\x83", NEWLINE,     "<0x41>", BLANK BLANK, BLANK "there"};
    lb_token_set_deinit(&pieces);
    lb_token_set_deinit(&bytes);
    lb_arena_reset(&arena);
    for (u64 i = 0; i < LB_LEN(a); i++)
        put(&pieces, i, a[i], i == 1 ? "bos_token" : i == 2 ? "eos_token" : NULL, i < 3);
    for (u64 i = 0; i < LB_LEN(b); i++)
        put(&bytes, i + (i >= 8), b[i], i == 0 ? "eos_token" : NULL, i == 0);
    CHECK_OK(lb_token_set_finish(&pieces, &err));
    CHECK_OK(lb_token_set_finish(&bytes, &err));
}

static u64 find(const lb_token_set *t, const char *key) {
    return lb_token_find(t, lb_str_c(key));
}

LB_TEST(keys) {
    make_sets();
    CHECK(!pieces.byte_level && bytes.byte_level);
    CHECK_U64(pieces.n_tokens, 13);
    CHECK(bytes.n_tokens == 10 && bytes.n_ids == 11 && !lb_texts_has(&bytes.key, 8));
    CHECK_U64(find(&pieces, "sbos_token"), 1);
    CHECK_U64(find(&bytes, "seos_token"), 0);
    CHECK_U64(find(&pieces, "wthe"), 5);
    CHECK_U64(find(&bytes, "wthe"), 1);
    CHECK_U64(find(&bytes, "w" BLANK), 9);
    CHECK_U64(find(&pieces, "w"), 10);
    CHECK(find(&pieces, "pthe") == LB_NO_TOKEN_ID && find(&pieces, "p</s>") == LB_NO_TOKEN_ID);
}

LB_TEST(looser_matches) {
    size_t len;
    make_sets();
    CHECK_U64(lb_token_find_byte(&pieces, LB_STR("pC")), LB_NO_TOKEN_ID);
    CHECK_U64(lb_token_find_byte(&pieces, LB_STR("pA")), 3);
    CHECK_U64(lb_token_find_byte(&pieces, LB_STR("p<0x41>")), 8);
    CHECK_U64(lb_token_find_byte(&pieces, LB_STR("wA")), LB_NO_TOKEN_ID);
    CHECK_U64(lb_token_find_byte(&pieces, LB_STR("p\xc3\x83")), 4); /* U+00C3 and <0xC3> */
    lb_str things = LB_STR("pthings"), there = LB_STR("wthere"), role = LB_STR("spad_token");
    CHECK_U64(lb_token_find_prefix(&pieces, things, (len = things.len, &len)), 7);
    CHECK_U64(len, 3);
    CHECK_U64(lb_token_find_prefix(&pieces, things, &len), LB_NO_TOKEN_ID);
    CHECK_U64(lb_token_find_prefix(&pieces, there, (len = there.len, &len)), 5);
    CHECK_U64(lb_token_find_prefix(&pieces, there, &len), 11);
    CHECK_U64(lb_token_find_prefix(&pieces, role, (len = role.len, &len)), LB_NO_TOKEN_ID);
}

static void check_bytes(const lb_token_set *t, u64 id, const char *want) {
    lb_buf b = {0};
    CHECK_OK(lb_token_bytes(t, id, &b, &err));
    CHECK_STR(lb_buf_str(&b), want);
    lb_buf_deinit(&b);
}

LB_TEST(what_tokens_stand_for) {
    make_sets();
    check_bytes(&pieces, 5, " the");
    check_bytes(&pieces, 4, "\xc3");
    check_bytes(&pieces, 9, "é");
    check_bytes(&pieces, 2, "</s>");
    check_bytes(&bytes, 1, " the");
    check_bytes(&bytes, 5, "\xc3");
    check_bytes(&bytes, 6, "\n");
    check_bytes(&bytes, 0, "<|end|>");
    CHECK_U64(lb_token_of_byte(&pieces, 'A'), 3);
    CHECK_U64(lb_token_of_byte(&pieces, 0xc3), 4);
    CHECK_U64(lb_token_of_byte(&bytes, '\n'), 6);
    CHECK_U64(lb_token_of_byte(&bytes, 'a'), 4);
}

/* ---- alignment: the donor is the byte-level one ---- */

static lb_align align(const lb_align_in *more) {
    lb_align a;
    lb_align_in in = more ? *more : (lb_align_in){0};
    in.model = &pieces;
    in.donor = &bytes;
    in.model_rows = in.model_rows ? in.model_rows : UINT64_MAX;
    in.donor_rows = in.donor_rows ? in.donor_rows : UINT64_MAX;
    if (lb_align_make(&in, &arena, &a, NULL) != LB_OK)
        abort();
    return a;
}

LB_TEST(rows_of_tokens) {
    make_sets();
    lb_align a = align(NULL);
    static const u32 want[] = {2,
                               5,
                               6,
                               LB_ALIGN_NEW,
                               LB_ALIGN_NEW,
                               LB_ALIGN_NEW,
                               LB_ALIGN_NEW,
                               3,
                               LB_ALIGN_ZERO,
                               LB_ALIGN_NEW,
                               LB_ALIGN_NEW};
    CHECK_U64(a.n_rows, LB_LEN(want));
    for (u32 i = 0; i < LB_LEN(want); i++)
        CHECK_U64(a.from[i], want[i]);
    CHECK(a.n_exact == 4 && a.n_fresh == 6 && a.n_junk == 0 && a.n_shared == 4);
    CHECK(a.donor_row[1] == 1 && a.model_row[1] == 5 && a.fresh[0] == 3 && a.fresh[4] == 9);
    a = align(&(lb_align_in){.prefix = true, .byte = true});
    CHECK(a.from[3] == 7 && a.from[10] == 5 && a.from[5] == 4);
    CHECK(a.n_byte == 1 && a.n_prefix == 2 && a.n_fresh == 3 && a.n_shared == 4);
}

LB_TEST(tokens_beyond_a_matrix) {
    make_sets();
    lb_align a = align(&(lb_align_in){.donor_rows = 7, .model_rows = 6});
    CHECK(a.from[7] == LB_ALIGN_ZERO && a.from[9] == LB_ALIGN_ZERO && a.n_junk == 3);
    CHECK(a.from[1] == 5 && a.from[2] == LB_ALIGN_NEW && a.n_exact == 2);
}

LB_TEST(tokens_hardly_trained) {
    u8 model[13], donor[11];
    make_sets();
    memset(model, 1, sizeof model);
    memset(donor, 1, sizeof donor);
    model[5] = 0;            /* the: known in one only */
    donor[2] = model[6] = 0; /* ing: in none */
    donor[4] = 0;            /* a: in none, the model does not have it */
    donor[0] = 0;            /* eos: in the model only */
    model[11] = 0;
    lb_align a = align(&(lb_align_in){.model_good = model, .donor_good = donor, .prefix = true});
    CHECK(a.from[1] == LB_ALIGN_NEW && a.from[2] == LB_ALIGN_ZERO && a.from[4] == LB_ALIGN_ZERO);
    CHECK(a.from[0] == LB_ALIGN_NEW && a.n_junk == 2);
    CHECK_U64(a.n_shared, 1);            /* <0x41> */
    CHECK_U64(a.from[3], LB_ALIGN_NEW);  /* its prefix th is none of the donor's tokens */
    CHECK_U64(a.from[10], LB_ALIGN_NEW); /* the prefixes of there are not trained */
}

/* ---- pursuit ---- */

enum { D = 40, N = 90, K = 12 };

static double dot(const float *a, const float *b, u64 n) {
    double s = 0;
    for (u64 i = 0; i < n; i++)
        s += (double)a[i] * (double)b[i];
    return s;
}

static void draw(float *x, u64 n) {
    for (u64 i = 0; i < n; i++)
        x[i] = lb_test_normal();
}

/* The atom with the largest product, which is not taken. */
static u32 choose(const lb_pursuit *p, float (*atoms)[D], u64 n) {
    u32 best = 0;
    double most = -1;
    for (u32 i = 0; i < n; i++) {
        double s = fabs(dot(p->rest, atoms[i], D));
        if (s > most && !lb_pursuit_has(p, i)) {
            most = s;
            best = i;
        }
    }
    return best;
}

LB_TEST(pursuit_is_least_squares) {
    static float atoms[N][D], x[D], rest[D], row[D];
    double c[K];
    lb_pursuit p;
    lb_kernels_init(&kernels, 0);
    for (u32 i = 0; i < N; i++)
        draw(atoms[i], D);
    draw(x, D);
    memcpy(rest, x, sizeof x);
    void *memory = malloc((size_t)lb_pursuit_bytes(D, K, true));
    lb_pursuit_place(&p, D, K, rest, memory);
    CHECK(lb_pursuit_begin(&p, &kernels));
    while (!p.done) {
        u32 a = choose(&p, atoms, N);
        memcpy(row, atoms[a], sizeof row);
        lb_pursuit_take(&p, &kernels, a, row);
    }
    CHECK_U64(p.n, K);
    lb_pursuit_solve(&p, c);
    for (u32 d = 0; d < D; d++) { /* x = the atoms' sum and the rest */
        double s = rest[d];
        for (u32 i = 0; i < K; i++)
            s += c[i] * (double)atoms[p.atom[i]][d];
        CHECK(fabs(s - (double)x[d]) < 1e-5);
    }
    for (u32 i = 0; i < K; i++) /* and the rest is orthogonal to them */
        CHECK(fabs(dot(rest, atoms[p.atom[i]], D)) < 1e-5);
    free(memory);
}

LB_TEST(pursuit_ends) {
    static float a[D], b[D], rest[D], row[D];
    double c[4];
    lb_pursuit p;
    lb_kernels_init(&kernels, 0);
    void *memory = malloc((size_t)lb_pursuit_bytes(D, 4, true));
    lb_pursuit_place(&p, D, 4, rest, memory);
    memset(rest, 0, sizeof rest);
    CHECK(lb_pursuit_begin(&p, &kernels) && p.done); /* nothing to be found */
    draw(a, D);
    draw(b, D);
    for (u32 i = 0; i < D; i++)
        rest[i] = 2 * a[i] - 3 * b[i];
    CHECK(lb_pursuit_begin(&p, &kernels) && !p.done);
    memcpy(row, a, sizeof row);
    lb_pursuit_take(&p, &kernels, 7, row);
    CHECK(!p.done && p.n == 1);
    for (u32 i = 0; i < D; i++) /* the same again, but for its length: it is not taken */
        row[i] = a[i] * 1.7f;
    lb_pursuit_take(&p, &kernels, 8, row);
    CHECK(p.done && p.n == 1);
    p.done = false;
    memcpy(row, b, sizeof row);
    lb_pursuit_take(&p, &kernels, 9, row);
    CHECK(p.done && p.n == 2); /* nothing is left */
    lb_pursuit_solve(&p, c);
    CHECK(fabs(c[0] - 2) < 1e-5 && fabs(c[1] + 3) < 1e-5);
    rest[3] = NAN;
    CHECK(!lb_pursuit_begin(&p, &kernels));
    free(memory);
}

/* ---- neighbours ---- */

static void weigh(lb_weighing how, const float *points, u64 k, const float *target,
                  const double *distance, double *w) {
    lb_landmarks l = {.k = k, .d = D, .target = target, .points = points, .distance = distance};
    l.weighing = how;
    double *scratch = malloc((size_t)lb_landmarks_scratch(k) * sizeof *scratch);
    lb_landmarks_weigh(&l, &kernels, scratch, w);
    free(scratch);
}

static double off_target(const float *points, u64 k, const float *target, const double *w) {
    double most = 0;
    for (u32 d = 0; d < D; d++) {
        double s = -(double)target[d];
        for (u64 i = 0; i < k; i++)
            s += w[i] * (double)points[i * D + d];
        most = fmax(most, fabs(s));
    }
    return most;
}

LB_TEST(weights_of_neighbours) {
    static float points[60][D], target[D];
    double w[60], distance[60], sum = 0, norm = 0;
    lb_kernels_init(&kernels, 0);
    for (u32 i = 0; i < 60; i++)
        draw(points[i], D);
    for (u32 d = 0; d < D; d++)
        target[d] = 0.5f * points[0][d] + 0.25f * points[1][d] + 0.25f * points[2][d];
    for (u32 i = 0; i < 60; i++)
        distance[i] = lb_landmarks_distance(&kernels, target, points[i], D, false);
    weigh(LB_WEIGH_DISTANCE, points[0], 5, target, distance, w);
    CHECK(fabs(w[3] / w[4] - distance[4] / distance[3]) < 1e-12);
    for (u32 how = LB_WEIGH_BARYCENTRIC; how <= LB_WEIGH_LEAST; how++) {
        weigh((lb_weighing)how, points[0], 5, target, NULL, w);
        CHECK(fabs(w[0] - 0.5) < 1e-6 && fabs(w[1] - 0.25) < 1e-6 && fabs(w[4]) < 1e-6);
        memcpy(points[5], points[1], sizeof points[5]); /* twice: both get a half */
        weigh((lb_weighing)how, points[0], 6, target, NULL, w);
        CHECK(fabs(w[0] - 0.5) < 1e-5 && fabs(w[1] - 0.125) < 1e-5 && fabs(w[5] - 0.125) < 1e-5);
        draw(points[5], D);
        weigh((lb_weighing)how, points[0], 60, target, NULL,
              w); /* more than there are dimensions */
        CHECK(off_target(points[0], 60, target, w) < 1e-4);
        for (u32 i = 0; i < 60 && how == LB_WEIGH_BARYCENTRIC; i++)
            sum += w[i];
        for (u32 i = 0; i < 60 && how == LB_WEIGH_LEAST; i++)
            norm += w[i] * w[i];
    }
    CHECK(fabs(sum - 1) < 1e-5);
    CHECK(norm < 0.375); /* the shortest: shorter than that of three */
}

/* ---- positions ---- */

LB_TEST(turned_vectors) {
    enum { HEADS = 3, HALF = 8 };
    double frequency[HALF];
    float x[HEADS * 2 * HALF], y[HEADS * 2 * HALF];
    lb_rope r;
    lb_rope_init(&r, HEADS * 2 * HALF, HEADS, 10000, frequency);
    CHECK(r.half == HALF && frequency[0] == 1);
    for (u32 i = 0; i < HALF; i++)
        CHECK(fabs(frequency[i] / pow(10000, -(double)i / HALF) - 1) < 1e-13);
    draw(x, LB_LEN(x));
    for (double p = -2.5; p < 3; p += 0.5) { /* positions up to a turn are found again */
        memcpy(y, x, sizeof y);
        lb_rope_turn(&r, p, y);
        CHECK(fabs(dot(x, x, LB_LEN(x)) - dot(y, y, LB_LEN(y))) < 1e-4);
        float want = (float)((double)x[1] * cos(p * frequency[1]) -
                             (double)x[1 + HALF] * sin(p * frequency[1]));
        CHECK(fabs((double)(y[1] - want)) < 1e-6);
        CHECK(fabs(p) > 1.4 || fabs(lb_rope_position(&r, x, y) - p) < 1e-5);
    }
    for (u32 i = 0; i < LB_LEN(x); i++)
        y[i] = -x[i];
    CHECK(fabs(lb_rope_position(&r, x, y)) < 1e-5); /* towards -y */
}

/* ---- random numbers ---- */

LB_TEST(normal_numbers) {
    enum { MANY = 200000 };
    lb_gauss a, b;
    double sum = 0, square = 0, fourth = 0;
    lb_kernels_init(&kernels, 0);
    lb_gauss_begin(&a, &kernels, 5, 1, 2);
    for (u32 i = 0; i < MANY; i++) {
        double x = lb_gauss_next(&a);
        sum += x;
        square += x * x;
        fourth += x * x * x * x;
    }
    CHECK(fabs(sum / MANY) < 0.01 && fabs(square / MANY - 1) < 0.02);
    CHECK(fabs(fourth / MANY - 3) < 0.15);
    lb_gauss_begin(&a, &kernels, 5, 1, 2);
    lb_gauss_begin(&b, &kernels, 5, 1, 3); /* another row */
    CHECK(lb_f32_bits(lb_gauss_next(&a)) != lb_f32_bits(lb_gauss_next(&b)));
    lb_gauss_begin(&b, &kernels, 5, 1, 2);
    (void)lb_gauss_next(&b);
    CHECK_U64(lb_f32_bits(lb_gauss_next(&a)), lb_f32_bits(lb_gauss_next(&b)));
    lb_gauss_begin(&b, &kernels, 1, 2, 3); /* the same on every machine */
    CHECK_U64(lb_f32_bits(lb_gauss_next(&b)), 3222219222);
    CHECK_U64(lb_f32_bits(lb_gauss_next(&b)), 1033880372);
}

/* ---- configs ---- */

LB_TEST(ids_in_configs) {
    lb_str out;
    lb_json *donor = NULL;
    make_sets();
    lb_token_ids t = {.model = &pieces, .donor = &bytes};
    CHECK_OK(lb_json_parse(LB_STR("{\"bos_token_id\": 4}"), "x", &arena, &donor, &err));
    t.config = donor;
    CHECK_OK(lb_token_ids_config(
        &t, LB_STR("{\"bos_token_id\": 1, \"eos_token_id\": 2, \"pad_token_id\": 0, \"n\": 7}"),
        &arena, &out, &err));
    CHECK_STR(out, "{\n  \"bos_token_id\": 4,\n  \"eos_token_id\": 0,\n  \"pad_token_id\": null,\n"
                   "  \"n\": 7\n}\n");
    /* a key of the model's own follows its token, or is an error */
    CHECK_OK(lb_token_ids_config(&t, LB_STR("{\"image_token_id\": 6}"), &arena, &out, &err));
    CHECK_STR(out, "{\n  \"image_token_id\": 2,\n  \"bos_token_id\": 4\n}\n");
    CHECK_U64(lb_token_ids_config(&t, LB_STR("{\"image_token_index\": 12}"), &arena, &out, &err),
              LB_E_UNSUPPORTED);
    CHECK(strstr(err.msg, "image_token_index") && strstr(err.msg, "<mask>"));
    /* inside, where the language model's part has its own */
    CHECK_OK(lb_token_ids_config(&t, LB_STR("{\"text_config\": {\"eos_token_id\": [2]}}"), &arena,
                                 &out, &err));
    CHECK_STR(out, "{\n  \"text_config\": {\n    \"eos_token_id\": 0\n  }\n}\n");
}

LB_TEST(ids_in_generation_configs) {
    lb_str out;
    make_sets();
    lb_token_ids t = {.model = &pieces, .donor = &bytes};
    CHECK_OK(lb_token_ids_generation(
        &t, LB_STR("{\"eos_token_id\": 2, \"temperature\": 0.6, \"suppress_tokens\": [1]}"),
        LB_STR("{\"eos_token_id\": [0, 3], \"pad_token_id\": 1, \"top_p\": 1}"), &arena, &out,
        &err));
    CHECK_STR(out, "{\n  \"eos_token_id\": [\n    0,\n    3\n  ],\n  \"temperature\": 0.6,\n"
                   "  \"pad_token_id\": 1\n}\n");
    CHECK_OK(lb_token_ids_generation(&t, LB_STR_NONE, LB_STR_NONE, &arena, &out, &err));
    CHECK_U64(out.len, 0);
    CHECK(lb_is_tokenizer_file(LB_STR("tokenizer.model.v3")));
    CHECK(lb_is_tokenizer_file(LB_STR("additional_chat_templates/rag.jinja")));
    CHECK(!lb_is_tokenizer_file(LB_STR("config.json")) && !lb_is_tokenizer_file(LB_STR("LICENSE")));
}

LB_TEST(options_as_text) {
    lb_transplant_opts o = {.k = LB_TRANSPLANT_K};
    lb_arena_reset(&arena);
    CHECK_STR(lb_transplant_text(&o, &arena), " --approximation-method omp");
    o.k = 3;
    o.method = LB_APPROX_INTERPOLATION;
    o.weighing = LB_WEIGH_LEAST;
    o.prefix = LB_ALLOW_HEAD;
    o.scale = 0.5;
    CHECK_STR(lb_transplant_text(&o, &arena),
              " --approximation-method common_interpolation -k 3 --weight-scheme least_squares "
              "--prefix-match lm_head --new-vocab-scale 0.5");
}

LB_TEST_MAIN("fast")
