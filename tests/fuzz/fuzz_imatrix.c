/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_imatrix.c: bytes -> an importance matrix of either form. What is accepted must be sound:
 * ranges in the file, names in order and unique, a count for each matrix or one for all; every
 * value read comes out as a number from 0 or is refused, in one piece as in two; a model of just
 * these sizes is the one that it belongs to. */
#include "format/imatrix.h"
#include <float.h>
#include <math.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define VALUES_MAX 4096 /* of an entry that are read */

static void check_entry(const lb_imatrix *im, const lb_imatrix_entry *e, const u8 *data,
                        size_t size) {
    static float once[VALUES_MAX], twice[VALUES_MAX];
    lb_err err = {0};
    LB_ASSERT(e->name.len > 0 && lb_str_is_utf8(e->name) && e->counts);
    LB_ASSERT(e->n_values > 0 && e->off_bytes <= size &&
              e->n_values <= (size - e->off_bytes) / sizeof(float));
    LB_ASSERT(e->n_mats * e->n_cols == e->n_values);
    LB_ASSERT(e->n_counts == 1 || e->n_counts == e->n_mats);
    for (u64 i = 0; i < e->n_counts; i++)
        LB_ASSERT(e->counts[i] >= 0 && e->counts[i] == floorf(e->counts[i]));
    u64 n = LB_MIN(e->n_values, (u64)VALUES_MAX), cut = n / 3;
    memcpy(once, data + e->off_bytes, n * sizeof *once);
    memcpy(twice, once, n * sizeof *once);
    lb_status st = lb_imatrix_values(im, e, 0, n, once, &err), pieces;
    pieces = lb_imatrix_values(im, e, 0, cut, twice, &err);
    if (pieces == LB_OK)
        pieces = lb_imatrix_values(im, e, cut, n - cut, twice + cut, &err);
    LB_ASSERT(st == pieces && (st == LB_OK || (st == LB_E_FORMAT && err.msg[0])));
    if (st == LB_OK)
        LB_ASSERT(memcmp(once, twice, n * sizeof *once) == 0);
    for (u64 i = 0; i < n && st == LB_OK; i++)
        LB_ASSERT(once[i] >= 0 && once[i] <= FLT_MAX);
}

static void check_model(const lb_imatrix *im, lb_arena *a) {
    lb_source s = {.path = "x", .imatrix = im};
    lb_imatrix_tensor *t = lb_arena_new(a, lb_imatrix_tensor, im->n_entries);
    lb_imatrix_match m;
    lb_err err = {0};
    LB_ASSERT(t);
    for (u64 i = 0; i < im->n_entries; i++) {
        const lb_imatrix_entry *e = &im->entries[i];
        t[i] = (lb_imatrix_tensor){e->name, {3, {e->n_mats, 7, e->n_cols}}};
        LB_ASSERT(lb_imatrix_find(im, e->name) == e && lb_imatrix_fits(e, &t[i].shape));
    }
    LB_ASSERT(lb_imatrix_match_model(&s, t, im->n_entries, &m, &err) == LB_OK);
    LB_ASSERT(m.n_used == im->n_entries && m.n_left == 0);
    t[0].shape.dim[2]++;
    lb_status st = lb_imatrix_match_model(&s, t, im->n_entries, &m, &err);
    LB_ASSERT(st == LB_E_FORMAT || (st == LB_OK && m.n_left == 1));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    lb_arena arena = {0};
    lb_imatrix_dir dir;
    lb_err err = {0};
    lb_cur c;
    u64 n_counts = 0;
    lb_cur_mem(&c, "x.imatrix", data, size);
    lb_status st = lb_imatrix_parse(&c, &arena, &arena, &dir, &err);
    LB_ASSERT(st == LB_OK || (st == err.code && err.msg[0]));
    LB_ASSERT(st != LB_E_NOMEM && st != LB_E_IO);
    LB_ASSERT(arena.size_bytes < 64 * LB_KIB + 256 * (u64)size);
    if (st == LB_OK) {
        for (u64 i = 0; i < dir.im.n_entries; i++) {
            const lb_imatrix_entry *e = &dir.im.entries[i];
            LB_ASSERT(i == 0 || lb_str_cmp(e[-1].name, e->name) < 0);
            check_entry(&dir.im, e, data, size);
            n_counts += e->n_counts;
        }
        LB_ASSERT(n_counts == dir.im.n_counts && dir.im.n_entries > 0);
        check_model(&dir.im, &arena);
    }
    lb_arena_deinit(&arena);
    return 0;
}
