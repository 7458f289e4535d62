/* SPDX-License-Identifier: Apache-2.0 */
/* golden.c: reads golden records and runs decoders over them. */
#include "golden.h"
#include "test.h"
#include "base/cpu.h"
#include <stdlib.h>

bool golden_open(const char *name, u8 **data, size_t *size) {
    char path[128];
    snprintf(path, sizeof path, "kern/%s", name);
    const char *full = lb_test_golden(path);
    FILE *f = fopen(full, "rb");
    long len = -1;
    *data = NULL;
    if (f && fseek(f, 0, SEEK_END) == 0)
        len = ftell(f);
    if (len > 0 && fseek(f, 0, SEEK_SET) == 0) {
        *size = (size_t)len;
        *data = malloc(*size);
        if (*data && fread(*data, 1, *size, f) != *size) {
            free(*data);
            *data = NULL;
        }
    }
    if (f)
        fclose(f);
    if (!*data)
        lb_test_fail(__FILE__, __LINE__, "cannot read %s", full);
    return *data != NULL;
}

void golden_close(u8 *data) {
    free(data);
}

void golden_record_free(golden_record *r) {
    free(r->owned);
    r->owned = NULL;
}

bool golden_next(const u8 *data, size_t size, size_t *at, golden_record *r) {
    const size_t head = 56;
    memset(r, 0, sizeof *r);
    if (*at == size)
        return false;
    const u8 *p = data + *at;
    const size_t left = size - *at;
    if (left < head || memcmp(p, "LBKG", 4) != 0 || lb_load_u32(p + 4) != 1)
        goto bad;
    memcpy(r->name, p + 8, 32);
    const u64 n_elems = lb_load_u64(p + 40), n_bytes = lb_load_u64(p + 48);
    if (n_bytes > left - head || n_elems > (left - head - n_bytes) / sizeof(float))
        goto bad;
    r->n_elems = (size_t)n_elems;
    r->n_bytes = (size_t)n_bytes;
    r->raw = p + head;
    r->owned = malloc(r->n_elems * sizeof(float) + 1);
    if (!r->owned)
        goto bad;
    memcpy(r->owned, r->raw + r->n_bytes, r->n_elems * sizeof(float));
    r->values = r->owned;
    *at += head + r->n_bytes + r->n_elems * sizeof(float);
    return true;
bad:
    lb_test_fail(__FILE__, __LINE__, "malformed golden record at byte %zu", *at);
    *at = size;
    return false;
}

bool golden_same(const golden_record *r, const char *who, const float *got) {
    for (size_t i = 0; i < r->n_elems; i++) {
        const float want = r->values[i];
        if (want != want ? got[i] != got[i] : lb_f32_bits(want) == lb_f32_bits(got[i]))
            continue;
        lb_test_fail(__FILE__, __LINE__, "%s, %s: element %zu is %08x (%.9g), expected %08x (%.9g)",
                     r->name, who, i, lb_f32_bits(got[i]), (double)got[i], lb_f32_bits(want),
                     (double)want);
        return false;
    }
    return true;
}

static bool check_record(lb_dtype t, const golden_record *r) {
    static const u32 isa[] = {0, LB_ISA_AVX2, LB_ISA_AVX2 | LB_ISA_AVX512,
                              LB_ISA_AVX2 | LB_ISA_AVX512 | LB_ISA_AVX512VNNI | LB_ISA_AVX512VBMI,
                              LB_ISA_NEON};
    const u32 have = lb_cpu_isa();
    u64 want_bytes = 0;
    if (!lb_dtype_bytes(t, r->n_elems, &want_bytes) || want_bytes != r->n_bytes ||
        r->n_elems == 0) {
        lb_test_fail(__FILE__, __LINE__, "%s: %zu bytes for %zu elements", r->name, r->n_bytes,
                     r->n_elems);
        return false;
    }
    float *out = malloc(r->n_elems * sizeof(float));
    bool ok = out != NULL;
    for (size_t i = 0; ok && i < LB_LEN(isa); i++) {
        if ((isa[i] & have) != isa[i])
            continue;
        lb_kernels k;
        lb_kernels_init(&k, isa[i]);
        char who[32];
        snprintf(who, sizeof who, "isa mask %u", isa[i]);
        lb_kernels_decode(&k, t)(r->n_elems, out, r->raw);
        ok = golden_same(r, who, out);
    }
    free(out);
    return ok;
}

void golden_check_decode(lb_dtype t) {
    char name[64];
    snprintf(name, sizeof name, "%s.bin", lb_dtype_get(t)->name);
    u8 *data;
    size_t size, at = 0;
    if (!golden_open(name, &data, &size))
        return;
    golden_record r;
    bool ok = true;
    while (ok && golden_next(data, size, &at, &r)) {
        ok = check_record(t, &r);
        golden_record_free(&r);
    }
    golden_close(data);
}
