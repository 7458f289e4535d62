/* SPDX-License-Identifier: Apache-2.0 */
/* plan_kit.c: see plan_kit.h. */
#include "plan_kit.h"
#include "test.h"
#include "base/cpu.h"
#include "base/os.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

bool lb_kit_file(lb_source *s, const char *path, u64 size_bytes, bool random, u32 *file) {
    int fd = -1;
    u8 buf[4096];
    lb_err err = {0};
    bool ok = lb_os_open_write(path, false, &fd, &err) == LB_OK &&
              lb_os_truncate(fd, path, size_bytes, &err) == LB_OK;
    for (u64 at = 0; ok && random && at < size_bytes; at += sizeof buf) {
        for (u32 i = 0; i < sizeof buf; i += 8)
            lb_store_u64(buf + i, lb_test_rand());
        ok = lb_os_pwrite(fd, path, buf, LB_MIN(sizeof buf, size_bytes - at), at, &err) == LB_OK;
    }
    lb_os_close(&fd);
    const char *slash = strrchr(path, '/');
    lb_str name = lb_arena_str(&s->perm, lb_str_c(slash ? slash + 1 : path));
    ok = ok && lb_source_add_file(s, path, name, file, &err) == LB_OK;
    if (!ok)
        fprintf(stderr, "%s\n", err.msg);
    return ok;
}

u64 lb_kit_bytes(lb_dtype t, u64 rows, u64 cols) {
    u64 n = 0;
    return lb_dtype_bytes(t, rows * cols, &n) ? n : 0;
}

bool lb_kit_tensor(lb_source *s, u32 file, u64 *off, const char *name, lb_dtype t,
                   const u64 dim[2]) {
    lb_err err = {0};
    lb_tensor x = {.dtype = t, .shape = {2, {dim[0], dim[1]}}, .file = file, .off_bytes = *off};
    x.name = lb_arena_str(&s->perm, lb_str_c(name));
    x.size_bytes = lb_kit_bytes(t, dim[0], dim[1]);
    lb_weight w = {.name = x.name, .shape = x.shape, .n_parts = 1};
    w.part[0] = (u32)s->n_tensors;
    *off += x.size_bytes;
    bool ok = lb_source_add_tensor(s, &x, &err) == LB_OK;
    ok = ok && lb_source_add_weight(s, &w, &err) == LB_OK;
    if (!ok)
        fprintf(stderr, "%s\n", err.msg);
    return ok;
}

lb_plan *lb_kit_plan(const lb_source *s, bool cast, u32 n_files, lb_err *err) {
    lb_plan *p = NULL;
    if (lb_plan_new(&p, &s, 1, err) != LB_OK)
        return NULL;
    for (u32 f = 0; f < n_files; f++) {
        char name[32];
        snprintf(name, sizeof name, "out-%u.bin", f);
        (void)lb_plan_file(p, n_files > 1 ? lb_str_c(name) : LB_STR_NONE, 0);
    }
    for (u64 i = 0; i < s->n_weights; i++) {
        const lb_weight *w = &s->weights[i];
        lb_node_id x = lb_expr_read(&p->graph, 0, w);
        lb_dtype t = cast ? LB_BF16 : s->tensors[w->part[0]].dtype;
        if (cast)
            x = lb_expr_decode(&p->graph, x);
        u32 file = (u32)(i * n_files / s->n_weights);
        lb_stream st = {.file = file, .name = w->name, .dtype = t, .shape = &w->shape};
        st.off_bytes = p->files[file].size_bytes;
        st.size_bytes = lb_kit_bytes(t, w->shape.dim[0], w->shape.dim[1]);
        p->files[file].size_bytes += st.size_bytes;
        lb_plan_output(p, &st, lb_expr_encode(&p->graph, x, t));
    }
    p->want_digests = true;
    return p;
}

lb_status lb_kit_run(lb_plan *p, const char *out, const lb_sink_options *so,
                     const lb_run_options *ro, lb_run_report *rep, lb_err *err) {
    lb_kernels k;
    lb_sink *sink = NULL;
    lb_run_options r = ro ? *ro : (lb_run_options){0};
    lb_sink_options o = so ? *so : (lb_sink_options){.force = true};
    lb_kernels_init(&k, lb_cpu_isa());
    if (out) {
        o.path = out;
        LB_TRY(lb_sink_open(&sink, p, &o, err));
    }
    r.kernels = &k;
    r.sink = sink;
    lb_status st = lb_run(p, &r, rep, err);
    if (st == LB_OK && sink) {
        lb_sink_head *heads = calloc(p->n_files + 1, sizeof *heads);
        st = lb_sink_finish(sink, &(lb_sink_ending){.heads = heads}, err);
        free(heads);
    }
    lb_sink_close(&sink, NULL);
    return st;
}

bool lb_kit_same_file(const char *a, const char *b) {
    FILE *f = fopen(a, "rb"), *g = fopen(b, "rb");
    static u8 x[65536], y[65536];
    bool same = f && g;
    while (same) {
        size_t n = fread(x, 1, sizeof x, f), m = fread(y, 1, sizeof y, g);
        same = n == m && memcmp(x, y, n) == 0;
        if (n == 0)
            break;
    }
    if (f)
        fclose(f);
    if (g)
        fclose(g);
    return same;
}

u64 lb_kit_open_files(void) {
    u64 n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n > 3 ? n - 3 : 0; /* . and .. and the folder itself */
}

bool lb_kit_memory_known(void) {
#if defined(__linux__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    return !getenv("RUNNER") && !lb_test_emulated(); /* valgrind's own memory would be counted */
#else
    return false;
#endif
}

bool lb_kit_slow(void) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
    return true;
#endif
#endif
    return lb_test_emulated();
}

static u64 status_line(const char *key) {
    char line[256];
    u64 kib = 0;
    FILE *f = lb_kit_memory_known() ? fopen("/proc/self/status", "r") : NULL;
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, key, strlen(key)) == 0)
            kib = strtoull(line + strlen(key), NULL, 10);
    if (f)
        fclose(f);
    return kib * LB_KIB;
}

u64 lb_kit_data_bytes(void) {
    return status_line("VmData:") + status_line("VmStk:");
}

u64 lb_kit_peak_rss(void) {
    return status_line("VmHWM:");
}
