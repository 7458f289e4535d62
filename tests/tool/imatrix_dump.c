/* SPDX-License-Identifier: Apache-2.0 */
/* imatrix_dump.c: what lbrx makes of importance matrices, for tests/peers/peer_imatrix.py:
 *
 *   imatrix_dump FILE...    for each "file FILE", then "error MESSAGE" or the lines that
 *                           tests/golden/imatrix/imatrix_host.cpp prints of what llama-quantize
 * reads
 */
#include "format/imatrix.h"
#include <stdio.h>

static lb_status put_values(const lb_source *s, lb_fds *fds, lb_buf *out, lb_err *err) {
    float tile[1000];
    for (u64 i = 0; i < s->imatrix->n_entries; i++) {
        const lb_imatrix_entry *e = &s->imatrix->entries[i];
        lb_buf_printf(out, "entry %.*s %llu", LB_FMT(e->name), (unsigned long long)e->n_values);
        for (u64 at = 0; at < e->n_values; at += LB_LEN(tile)) {
            u64 n = LB_MIN(e->n_values - at, (u64)LB_LEN(tile));
            LB_TRY(lb_imatrix_read(s, fds, e, at, n, tile, err));
            for (u64 k = 0; k < n; k++)
                lb_buf_printf(out, " %x", lb_f32_bits(tile[k]));
        }
        lb_buf_put_c(out, "\n");
    }
    return lb_buf_status(out, err);
}

static lb_status put_file(const char *path, lb_buf *out, lb_err *err) {
    lb_source *s = NULL;
    lb_fds *fds = NULL;
    LB_TRY(lb_imatrix_open(&s, path, err));
    lb_buf_printf(out, "chunks %llu\n", (unsigned long long)s->imatrix->chunk_count);
    for (u64 i = 0; i < s->imatrix->n_datasets; i++)
        lb_buf_printf(out, "dataset %.*s\n", LB_FMT(s->imatrix->datasets[i]));
    lb_status st = lb_fds_new(&fds, s->files, s->n_files, 1, err);
    if (st == LB_OK)
        st = put_values(s, fds, out, err);
    lb_fds_free(&fds);
    lb_source_close(&s);
    return st;
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        lb_buf out = {0};
        lb_err err = {0};
        putchar(0);
        if (put_file(argv[i], &out, &err) == LB_OK)
            (void)fwrite(out.ptr, 1, out.len, stdout);
        else
            printf("error %s\n", err.msg);
        lb_buf_deinit(&out);
    }
    return 0;
}
