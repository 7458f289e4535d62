/* SPDX-License-Identifier: Apache-2.0 */
/* test_select.c: exact selections against a sort: values of all kinds, collected in plenty of room
 * and in hardly any, in tiles of any size; and how much of the matrix is read for them. */
#include "plan_kit.h"
#include "test.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define ROWS 200
#define COLS 300
#define N (ROWS * COLS)

enum { FINE, COARSE, ASCENDING, ROWS_DIFFER, LAST_ROWS, EQUAL, ZEROS, SPECIAL, SPARSE, N_PATTERNS };

/* In order of rank: larger magnitudes first, of equal ones the first. */
typedef struct entry {
    u32 bits, index;
} entry;

static float *value;   /* [N] */
static entry *ranked;  /* [N] */
static u32 *group_end; /* [N] of the equals around a rank: one past the last */

static int by_rank(const void *a, const void *b) {
    const entry *x = a, *y = b;
    if (x->bits != y->bits)
        return x->bits < y->bits ? 1 : -1;
    return x->index < y->index ? -1 : 1;
}

static float make(u32 pattern, u32 i) {
    float x = lb_test_normal(), row = (float)(i / COLS);
    switch (pattern) {
    case COARSE: /* differences of two bf16: few magnitudes */
        return rintf(x * 6) * 0x1p-10f;
    case ASCENDING:
        return (float)i * 0x1p-20f;
    case ROWS_DIFFER:
        return x * expf(2 * sinf(row));
    case LAST_ROWS: /* all that is large lies in the last tiles, and of two magnitudes */
        return row < ROWS - 3 ? x * 1e-3f : x > 0 ? 2.0f : -3.0f;
    case EQUAL:
        return x > 0 ? 0.25f : -0.25f;
    case ZEROS:
        return i % 2 ? -0.0f : 0.0f;
    case SPECIAL:
        return i % 97 == 0   ? lb_f32_from_bits(0x7fc00001u + i % 3)
               : i % 89 == 0 ? -INFINITY
               : i % 83 == 0 ? 1e-42f
                             : x;
    case SPARSE:
        return i % 50 == 7 ? x : 0;
    default:
        return x;
    }
}

static void open_source(lb_source **out, u32 pattern) {
    char path[400];
    u32 file;
    u64 off = 0;
    lb_err err = {0};
    snprintf(path, sizeof path, "%s/in.bin", lb_test_dir());
    lb_source *s = lb_source_new(LB_FORMAT_SAFETENSORS, path);
    for (u32 i = 0; i < N; i++) {
        value[i] = make(pattern, i);
        ranked[i] = (entry){lb_f32_bits(value[i]) & 0x7fffffffu, i};
    }
    qsort(ranked, N, sizeof *ranked, by_rank);
    for (u32 i = N; i-- > 0;)
        group_end[i] = i + 1 < N && ranked[i + 1].bits == ranked[i].bits ? group_end[i + 1] : i + 1;
    FILE *f = fopen(path, "wb");
    CHECK(f && fwrite(value, sizeof(float), N, f) == N && fclose(f) == 0);
    CHECK_OK(lb_source_add_file(s, path, LB_STR("in.bin"), &file, &err));
    CHECK(lb_kit_tensor(s, file, &off, "x", LB_F32, (u64[]){ROWS, COLS}));
    *out = s;
}

/* Of each group of equals, those of the lowest indices, as many as have ranks in [top, last). */
static void expect(u64 top, u64 last, float *out) {
    for (u32 i = 0; i < N; i++)
        out[i] = value[i] * 0.0f;
    for (u64 first = 0; first < N; first = group_end[first]) {
        u64 end = group_end[first], lo = LB_MAX(first, top), hi = LB_MIN(end, last);
        for (u64 i = 0; lo < hi && i < hi - lo; i++)
            out[ranked[first + i].index] = value[ranked[first + i].index];
    }
    for (u32 i = 0; i < N; i++)
        if (out[i] != out[i])
            out[i] = lb_f32_from_bits(0x7fc00000);
}

#define MANY 18

typedef struct how {
    u64 top, last; /* [top, last) is kept */
    double part;   /* last: this part of what is not 0 */
} how;

static lb_node_id select_of(lb_graph *g, lb_node_id x, const how *h) {
    if (h->part > 0)
        return lb_expr_select_nonzero(g, x, h->part);
    return h->top ? lb_expr_select(g, x, (u64[]){h->top, h->last}, 2, NULL)
                  : lb_expr_select(g, x, &h->last, 1, NULL);
}

/* got: [n][N], one output each. */
static void run(const lb_source *s, const how *h, u32 n, const lb_plan_limits *lim, float *got,
                lb_run_report *rep) {
    char out[400];
    lb_plan *p = NULL;
    lb_err err = {0};
    const lb_shape shape = {2, {ROWS, COLS}};
    const u64 size = N * sizeof(float);
    snprintf(out, sizeof out, "%s/out.bin", lb_test_dir());
    CHECK_OK(lb_plan_new(&p, &s, 1, &err));
    lb_graph *g = &p->graph;
    (void)lb_plan_file(p, LB_STR(""), n * size);
    for (u32 i = 0; i < n; i++) {
        lb_node_id x = lb_expr_decode(g, lb_expr_read(g, 0, &s->weights[0]));
        lb_stream st = {.name = LB_STR("out"),
                        .dtype = LB_F32,
                        .shape = &shape,
                        .off_bytes = i * size,
                        .size_bytes = size};
        lb_plan_output(p, &st, lb_expr_encode(g, lb_expr_keep(g, select_of(g, x, &h[i])), LB_F32));
    }
    CHECK_OK(lb_plan_close(p, lim, &err));
    CHECK_OK(lb_kit_run(p, out, NULL, NULL, rep, &err));
    CHECK_U64(rep->bytes_read, p->read_bytes);
    lb_plan_free(&p);
    FILE *f = fopen(out, "rb");
    CHECK(f && fread(got, size, n, f) == n && fclose(f) == 0);
}

static void check(u32 pattern, const how *h, const lb_plan_limits *lim, const float *got) {
    static float want[N];
    u64 last = h->last, nonzero = 0;
    for (u32 i = 0; i < N; i++)
        nonzero += value[i] != 0;
    if (h->part > 0)
        last = (u64)((float)nonzero * (float)h->part);
    expect(h->top, last, want);
    if (memcmp(got, want, sizeof want) == 0)
        return;
    u32 i = 0, n_want = 0, n_got = 0;
    while (lb_f32_bits(got[i]) == lb_f32_bits(want[i]))
        i++;
    for (u32 j = 0; j < N; j++) {
        n_want += want[j] != 0;
        n_got += got[j] != 0;
    }
    lb_test_fail(__FILE__, __LINE__,
                 "pattern %u, ranks %llu to %llu, room for %llu, tiles of %llu: element %u of "
                 "%g is %g, not %g; %u kept, not %u",
                 pattern, (unsigned long long)h->top, (unsigned long long)last,
                 (unsigned long long)lim->select_max, (unsigned long long)lim->tile_bytes, i,
                 (double)value[i], (double)got[i], (double)want[i], n_got, n_want);
}

static void begin(void) {
    value = malloc(N * sizeof *value);
    ranked = malloc(N * sizeof *ranked);
    group_end = malloc(N * sizeof *group_end);
}

static void end(void) {
    free(value);
    free(ranked);
    free(group_end);
}

LB_TEST(against_a_sort) {
    static const how hows[MANY] = {{0, 1, 0},         {0, 3, 0},         {0, N / 100, 0},
                                   {0, N / 3, 0},     {0, N - 1, 0},     {0, N, 0},
                                   {1, 2, 0},         {7, N / 3, 0},     {N / 2, N, 0},
                                   {N / 5, N / 2, 0}, {N - 2, N - 1, 0}, {N / 50, N / 25, 0},
                                   {0, N / 50, 0},    {300, 2000, 0},    {N / 3, N / 3 + 5, 0},
                                   {0, 0, 0.3},       {0, 0, 0.999},     {0, 0, 1e-7}};
    static const u64 rooms[] = {90, 0, 20000, 1, 1500, 100000};
    static const u64 tiles[] = {0, 1500, 3001, 40000, 40000};
    static float got[MANY][N];
    const u64 n_rooms = lb_test_cases(LB_LEN(rooms));
    u32 n = 0;
    begin();
    for (u32 pattern = 0; pattern < N_PATTERNS; pattern++) {
        lb_source *s = NULL;
        open_source(&s, pattern);
        for (u32 r = 0; r < n_rooms; r++, n++) {
            lb_run_report rep = {0};
            lb_plan_limits lim = {.memory_bytes = LB_GIB, .threads = 1 + (pattern + r) % 3};
            lim.select_max = rooms[r];
            lim.tile_bytes = tiles[n % LB_LEN(tiles)];
            run(s, hows, MANY, &lim, got[0], &rep);
            for (u32 i = 0; i < MANY; i++)
                check(pattern, &hows[i], &lim, got[i]);
        }
        lb_source_close(&s);
    }
    fprintf(stderr, "compared %u selections\n", n * MANY);
    end();
}

/* With room for a quarter of the values, all is read once, and a small part again. */
LB_TEST(read_once) {
    static float got[N];
    static const u32 patterns[] = {FINE, COARSE, EQUAL, SPARSE};
    begin();
    for (u32 i = 0; i < LB_LEN(patterns); i++) {
        lb_source *s = NULL;
        open_source(&s, patterns[i]);
        for (u32 k = 1; k < 10; k += 2) {
            lb_run_report rep = {0};
            lb_plan_limits lim = {.memory_bytes = LB_GIB, .threads = 2};
            lim.select_max = N / 4;
            lim.tile_bytes = 32768;
            run(s, &(how){0, N / 10 * k, 0}, 1, &lim, got, &rep);
            CHECK_U64(rep.bytes_read, 2 * N * sizeof(float));
            if (rep.bytes_again == 0 || rep.bytes_again >= N * sizeof(float) / 2)
                lb_test_fail(__FILE__, __LINE__, "pattern %u, rank %u: %llu bytes again",
                             patterns[i], N / 10 * k, (unsigned long long)rep.bytes_again);
        }
        lb_source_close(&s);
    }
    end();
}

LB_TEST_MAIN("slow")
