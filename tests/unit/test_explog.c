/* SPDX-License-Identifier: Apache-2.0 */
/* exp and log of floats against correctly rounded values (tests/golden/kern/make_explog.py), the
 * hardest of all floats among them. */
#include "golden.h"
#include "test.h"
#include "base/cpu.h"
#include <stdlib.h>

static void check_record(const golden_record *r) {
    static const u32 masks[] = {0, UINT32_MAX};
    bool log = !strcmp(r->name, "log");
    float *x = malloc(r->n_bytes + 1), *out = malloc(r->n_bytes + 1);
    CHECK(x && out && r->n_bytes == 4 * r->n_elems && (log || !strcmp(r->name, "exp")));
    for (size_t i = 0; x && out && i < LB_LEN(masks); i++) {
        lb_kernels k;
        lb_kernels_init(&k, masks[i] & lb_cpu_isa());
        memcpy(x, r->raw, r->n_bytes);
        (log ? k.map_log_f32 : k.map_exp_f32)(r->n_elems, out, x);
        CHECK(golden_same(r, r->name, out));
    }
    free(x);
    free(out);
}

LB_TEST(explog_golden) {
    u8 *data;
    size_t size, at = 0, n = 0;
    golden_record r;
    if (!golden_open("explog.bin", &data, &size))
        return;
    for (; golden_next(data, size, &at, &r); n++) {
        check_record(&r);
        CHECK(r.n_elems > 1000);
        golden_record_free(&r);
    }
    CHECK_U64(n, 2);
    golden_close(data);
}

/* What goes through log and back, or the other way, comes back near itself; order is kept. */
LB_TEST(explog_inverse) {
    lb_kernels k;
    lb_kernels_init(&k, 0);
    float last = -1;
    for (u32 i = 0; i < 20000; i++) {
        float x = (float)i * 0.001f - 10, e, back;
        k.map_exp_f32(1, &e, &x);
        k.map_log_f32(1, &back, &e);
        CHECK(e > last);
        CHECK(back - x < 1e-6f && x - back < 1e-6f);
        last = e;
    }
}

LB_TEST_MAIN("fast")
