/* SPDX-License-Identifier: Apache-2.0 */
/* test_team.c: threads that do small jobs together, and the pages of sequences. */
#include "base/mem.h"
#include "model/cache.h"
#include "model/team.h"
#include "test.h"
#include <stdatomic.h>

typedef struct job {
    _Atomic u32 *hits; /* of each item */
    u32 add;
    _Atomic u64 scratch_misaligned;
} job;

static void hit(void *ctx, u64 item, void *scratch) {
    job *j = ctx;
    if ((uintptr_t)scratch % 64)
        atomic_fetch_add(&j->scratch_misaligned, 1);
    *(u64 *)scratch = item; /* each thread's own */
    atomic_fetch_add(&j->hits[item], j->add);
}

/* Thousands of jobs, one behind the other: every item of each is done once, before the next. */
LB_TEST(jobs) {
    enum { ITEMS = 37, JOBS = 3000 };
    static const u32 threads[] = {1, 2, 3, 7};
    lb_err err = {0};
    for (size_t t = 0; t < LB_LEN(threads); t++) {
        lb_team *team = NULL;
        _Atomic u32 hits[ITEMS];
        u32 want = 0, bad = 0;
        for (u32 i = 0; i < ITEMS; i++)
            atomic_init(&hits[i], 0);
        CHECK_OK(lb_team_new(&team, threads[t], 64, &err));
        CHECK(lb_team_threads(team) == threads[t]);
        for (u32 n = 0; n < JOBS; n++) {
            job j = {.hits = hits, .add = n % 5 + 1};
            lb_team_run(team, ITEMS, hit, &j);
            want += j.add;
            bad += atomic_load(&j.scratch_misaligned) != 0;
            for (u32 i = 0; i < ITEMS; i++)
                bad += atomic_load(&hits[i]) != want;
        }
        CHECK(bad == 0);
        job none = {.hits = hits};
        lb_team_run(team, 0, hit, &none);
        lb_team_free(&team);
        CHECK(team == NULL);
    }
}

static lb_params small(lb_layer_params *layer) {
    layer[0] = (lb_layer_params){.n_head = 4, .n_head_kv = 2, .k_dim = 32, .v_dim = 32};
    layer[1] = layer[0];
    return (lb_params){.n_layers = 2, .n_embd = 64, .layer = layer};
}

/* Sequences that begin alike share pages; who writes first gets one of its own. */
LB_TEST(pages) {
    lb_layer_params layer[2];
    lb_params p = small(layer);
    lb_cache c;
    lb_err err = {0};
    CHECK_OK(lb_cache_init(&c, &p, &(lb_cache_kind){.type = LB_F16}, 256, 2, &err));
    CHECK_OK(lb_cache_grow(&c, 0, 70, &err));
    c.seq[0].length = 70;
    CHECK(c.seq[0].n_pages == 2);
    memset(lb_cache_keys(&c, 1, c.seq[0].page[1], 1), 0x5a, 16);
    CHECK_OK(lb_cache_copy(&c, 0, 1, 66, &err));
    CHECK(c.seq[1].length == 66 && c.seq[1].page[1] == c.seq[0].page[1]);
    CHECK_OK(lb_cache_grow(&c, 1, 3, &err));
    CHECK(c.seq[1].page[0] == c.seq[0].page[0] && c.seq[1].page[1] != c.seq[0].page[1]);
    CHECK(lb_cache_keys(&c, 1, c.seq[1].page[1], 1)[7] == 0x5a);
    CHECK(lb_cache_cut(&c, 0, 10) && c.seq[0].n_pages == 1);
    CHECK(!lb_cache_cut(&c, 0, 11));
    /* all positions of the context, and not one more */
    CHECK_OK(lb_cache_grow(&c, 0, 246, &err));
    c.seq[0].length = 256;
    CHECK(lb_cache_grow(&c, 0, 1, &err) == LB_E_LIMIT);
    CHECK(lb_cache_cut(&c, 1, 0) && c.seq[1].n_pages == 0);
    u64 bytes = lb_cache_bytes(&c);
    CHECK(lb_cache_cut(&c, 0, 0) && lb_cache_bytes(&c) == bytes);
    lb_cache_deinit(&c);
    p.layer[0].k_dim = 24;
    CHECK(lb_cache_init(&c, &p, &(lb_cache_kind){.type = LB_Q8_0}, 256, 1, &err) ==
          LB_E_UNSUPPORTED);
    lb_cache_deinit(&c);
}

LB_TEST_MAIN("fast")
