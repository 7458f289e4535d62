/* SPDX-License-Identifier: Apache-2.0 */
/* fault_kit.c: see fault_kit.h. */
#include "fault_kit.h"
#include "test.h"
#include "base/cpu.h"
#include "base/os.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* Thousands of small runs: in memory, where the system has such a folder. */
__attribute__((constructor)) static void choose_folder(void) {
    if (!getenv("TMPDIR") && access("/dev/shm", W_OK | X_OK) == 0)
        (void)setenv("TMPDIR", "/dev/shm", 1);
}

#define N_FILES 3
#define HEAD_BYTES 512

const fk_scene fk_scenes[] = {
    {.name = "file", .sha256 = true, .threads = 1},
    {.name = "file-threads", .threads = 3},
    {.name = "file-force", .force = true, .sha256 = true, .threads = 1},
    {.name = "folder", .folder = true, .sha256 = true, .threads = 2},
    {.name = "folder-force", .folder = true, .force = true, .sha256 = true, .threads = 1},
    {.name = "folder-aside", .folder = true, .force = true, .no_exchange = true, .threads = 1},
    {.name = "split", .folder = true, .spread = true, .sha256 = true, .threads = 1},
    {.name = "split-force",
     .folder = true,
     .spread = true,
     .force = true,
     .sha256 = true,
     .threads = 1},
};
const u32 fk_n_scenes = LB_LEN(fk_scenes);

const char *fk_path(const char *dir, const char *name) {
    static char ring[16][600];
    static u32 at;
    char *p = ring[at++ % LB_LEN(ring)];
    (void)snprintf(p, sizeof ring[0], "%s/%s%s%s", lb_test_dir(), dir, name[0] ? "/" : "", name);
    return p;
}

const char *fk_output(const fk_scene *s, const char *dir) {
    return fk_path(dir, s->folder && !s->spread ? "out" : "out.gguf");
}

const char *fk_beside(const fk_scene *s, const char *dir, const char *end) {
    char name[100];
    (void)snprintf(name, sizeof name, "%s%s", s->folder && !s->spread ? "out" : "out.gguf", end);
    return fk_path(dir, name);
}

static const char *part_name(u32 i, u32 n) {
    static char ring[8][40];
    static u32 at;
    char *p = ring[at++ % LB_LEN(ring)];
    (void)snprintf(p, sizeof ring[0], "out-%05u-of-%05u.gguf", i + 1, n);
    return p;
}

/* ---- the input ---- */

/* A stack of three, one that is cast and rounded (large: several spans), some small ones. */
static lb_source *open_source(bool fresh) {
    static const struct {
        lb_dtype dtype;
        u64 dim[2];
    } shape[] = {{LB_F32, {40, 64}},  {LB_BF16, {24, 64}}, {LB_BF16, {8, 64}}, {LB_BF16, {32, 64}},
                 {LB_BF16, {64, 64}}, {LB_F32, {1, 900}},  {LB_F32, {0, 64}}};
    char path[2][400], name[20];
    u32 file[2];
    u64 off[2] = {16, 32};
    lb_source *s = lb_source_new(LB_FORMAT_SAFETENSORS, "in");
    for (u32 f = 0; f < 2 && s; f++) {
        (void)snprintf(path[f], sizeof path[f], "%s/in-%u.bin", lb_test_dir(), f);
        lb_str base = lb_arena_str(&s->perm, lb_str_c(f ? "in-1.bin" : "in-0.bin"));
        lb_err err = {0};
        if (fresh ? !lb_kit_file(s, path[f], 20000, true, &file[f])
                  : lb_source_add_file(s, path[f], base, &file[f], &err) != LB_OK)
            lb_source_close(&s);
    }
    for (u32 i = 0; i < LB_LEN(shape) && s; i++) {
        (void)snprintf(name, sizeof name, "t%u", i);
        u32 f = i < 2 ? 0 : 1;
        if (!lb_kit_tensor(s, file[f], &off[f], name, shape[i].dtype, shape[i].dim))
            lb_source_close(&s);
    }
    return s;
}

bool fk_sources(void) {
    lb_source *s = open_source(true);
    bool ok = s != NULL;
    lb_source_close(&s);
    return ok;
}

/* ---- the plan ---- */

static u64 place(lb_plan *p, lb_stream *st, u32 file) {
    st->file = file;
    st->off_bytes = p->files[file].size_bytes;
    st->size_bytes = lb_kit_bytes(st->dtype, st->shape->dim[0], st->shape->dim[1]);
    return p->files[file].size_bytes += st->size_bytes;
}

static void add_jobs(lb_plan *p, const lb_source *s, u32 n_files) {
    lb_graph *g = &p->graph;
    lb_node_id r[8], d[8];
    for (u32 i = 0; i < s->n_weights; i++) {
        r[i] = lb_expr_read(g, 0, &s->weights[i]);
        d[i] = lb_expr_decode(g, r[i]);
    }
    static const lb_shape of_two = {2, {40, 64}}, of_stack = {2, {64, 64}};
    lb_stream two[2] = {
        {.name = LB_STR("cast"), .dtype = LB_BF16, .shape = &of_two},
        {.name = LB_STR("half"), .dtype = LB_F16, .shape = &of_two},
    };
    place(p, &two[0], 0);
    place(p, &two[1], n_files - 1);
    (void)lb_plan_job(p, LB_STR("cast"), two, 2);
    lb_plan_segment(
        p, (lb_node_id[]){lb_expr_encode(g, d[0], LB_BF16), lb_expr_encode(g, d[0], LB_F16)});
    lb_stream stack = {.name = LB_STR("stack"), .dtype = LB_F32, .shape = &of_stack};
    place(p, &stack, n_files / 2);
    (void)lb_plan_job(p, stack.name, &stack, 1);
    for (u32 i = 1; i < 4; i++)
        lb_plan_segment(p, (lb_node_id[]){lb_expr_encode(g, d[i], LB_F32)});
    for (u32 i = 4; i < s->n_weights; i++) {
        lb_stream st = {.name = s->weights[i].name,
                        .dtype = s->tensors[i].dtype,
                        .shape = &s->weights[i].shape};
        place(p, &st, i % n_files);
        lb_plan_output(p, &st, lb_expr_encode(g, r[i], st.dtype));
    }
}

static lb_plan *make_plan(const fk_scene *s, const lb_source *src, lb_err *err) {
    lb_plan *p = NULL;
    u32 n = s->folder ? N_FILES : 1;
    if (lb_plan_new(&p, &src, 1, err) != LB_OK)
        return NULL;
    for (u32 f = 0; f < n; f++)
        (void)lb_plan_file(p, s->folder ? lb_str_c(part_name(f, n)) : LB_STR_NONE, HEAD_BYTES);
    for (u32 f = 0; f < n && s->folder; f++) /* names are not copied by the plan */
        p->files[f].name = lb_arena_str(&p->perm, p->files[f].name);
    add_jobs(p, src, n);
    p->want_digests = true;
    return p;
}

/* All that the run found out, as text: it stands in the first head. */
static void describe(const lb_plan *p, char out[HEAD_BYTES]) {
    lb_xxh h;
    char hex[33];
    u64 rounded = 0, overflowed = 0;
    lb_xxh_init(&h);
    for (u64 j = 0; j < p->n_jobs; j++)
        for (u32 k = 0; k < p->jobs[j].n_streams; k++) {
            const lb_stream *t = &p->jobs[j].streams[k];
            lb_xxh_update(&h, &t->hash, sizeof t->hash);
            rounded += t->n_rounded;
            overflowed += t->n_overflowed;
        }
    lb_xxh_update(&h, &p->src[0].digest, sizeof p->src[0].digest);
    lb_hash_hex(lb_xxh_digest(&h), hex);
    memset(out, 0, HEAD_BYTES);
    (void)snprintf(out, HEAD_BYTES, "%s %llu rounded, %llu overflowed", hex,
                   (unsigned long long)rounded, (unsigned long long)overflowed);
}

static lb_status make_more(void *ctx, lb_out *out, lb_err *err) {
    (void)ctx;
    (void)err;
    lb_buf_put_c(&out->buf, "[1, 2, 3]\n");
    return LB_OK;
}

static lb_status make_head(void *ctx, lb_out *out, lb_err *err) {
    (void)err;
    lb_buf_put(&out->buf, ctx, 40);
    return LB_OK;
}

static lb_status write_out(lb_sink *sink, lb_plan *p, lb_err *err) {
    static const lb_sink_text texts[] = {
        {.name = LB_STR("config.json"), .bytes = LB_STR("{}\n")},
        {.name = LB_STR("sub/more.json"), .make = make_more},
        {.name = LB_STR("big.txt"),
         .bytes = LB_STR("a text that is longer than the others are\n")}};
    char head[HEAD_BYTES];
    lb_sink_head heads[N_FILES] = {
        {.bytes = {head, HEAD_BYTES}}, {.make = make_head, .ctx = head}, {.bytes = {"", 0}}};
    describe(p, head);
    bool folder = p->n_files > 1 && !lb_str_ends(p->options, LB_STR("spread"));
    lb_sink_ending e = {.heads = heads, .texts = texts, .n_texts = folder ? LB_LEN(texts) : 0};
    return lb_sink_finish(sink, &e, err);
}

static lb_status run(const fk_scene *s, const char *dir, bool resume, fk_end *end, lb_err *err) {
    lb_kernels k;
    lb_sink *sink = NULL;
    lb_status st = LB_E_NOMEM;
    lb_run_report rep = {0};
    lb_source *src = open_source(false);
    lb_plan *p = src ? make_plan(s, src, err) : NULL;
    lb_kernels_init(&k, lb_cpu_isa());
    if (!p) {
        lb_source_close(&src);
        return st;
    }
    p->options = lb_str_c(s->options ? s->options : s->spread ? "spread" : "plain");
    lb_plan_limits lim = {
        .memory_bytes = LB_GIB, .threads = s->threads, .tile_bytes = resume ? 2500 : 2000};
    lb_sink_options so = {.path = fk_output(s, dir),
                          .folder = s->folder,
                          .spread = s->spread,
                          .resume = resume,
                          .force = s->force,
                          .sync = !s->no_sync,
                          .stop = s->stop,
                          .sync_bytes = 4000,
                          .span_bytes = 3000,
                          .sha256 = s->sha256};
    LB_TRY_DONE(st, lb_plan_close(p, &lim, err));
    LB_TRY_DONE(st, lb_sink_open(&sink, p, &so, err));
    for (u64 j = 0; j < p->n_jobs; j++)
        end->kept_parts += lb_sink_kept_part(sink, j) != NULL;
    LB_TRY_DONE(
        st, lb_run(p, &(lb_run_options){.kernels = &k, .sink = sink, .stop = s->stop}, &rep, err));
    end->kept_jobs = rep.resumed_jobs;
    st = write_out(sink, p, err);
done:
    lb_sink_close(&sink, NULL);
    lb_plan_free(&p);
    lb_source_close(&src);
    return st;
}

fk_end fk_run(const fk_scene *s, const char *dir, bool resume, const seam *sm) {
    fk_end end = {.status = LB_E_IO};
    seam here = sm ? *sm : (seam){.kinds = SEAM_CHANGE};
    here.fake_sync = true;
    here.no_exchange = s->no_exchange;
    int pipes[2], status;
    if (pipe(pipes) != 0)
        return end;
    (void)fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        lb_err err = {0};
        (void)close(pipes[0]);
        if (s->uid && setuid(s->uid) != 0)
            _exit(1);
        seam_set(&here);
        end.status = run(s, dir, resume, &end, &err);
        end.seam_count = seam_count();
        seam_set(NULL);
        memcpy(end.msg, err.msg, LB_MIN(sizeof end.msg, sizeof err.msg));
        end.msg[sizeof end.msg - 1] = 0;
        (void)!write(pipes[1], &end, sizeof end);
        _exit(0);
    }
    (void)close(pipes[1]);
    if (read(pipes[0], &end, sizeof end) != (ssize_t)sizeof end)
        end.killed = true;
    (void)close(pipes[0]);
    if (waitpid(pid, &status, 0) != pid || (end.killed && !WIFSIGNALED(status)))
        end.killed = false;
    return end;
}

/* ---- what stands there ---- */

static bool write_old(const char *path, const char *text) {
    FILE *f = fopen(path, "wb");
    bool ok = f && fputs(text, f) >= 0;
    return f && fclose(f) == 0 && ok;
}

static bool make_old(const fk_scene *s, const char *dir) {
    const char *out = fk_output(s, dir);
    bool ok = true;
    if (s->spread) {
        for (u32 i = 0; i < 5; i++)
            ok = ok && write_old(fk_path(dir, part_name(i, 5)), "an old part of five\n");
        for (u32 i = 0; i < N_FILES; i++)
            ok = ok && write_old(fk_path(dir, part_name(i, N_FILES)), "an old part of three\n");
        ok = ok && write_old(fk_path(dir, "out-00001-of-00002.gguf.txt"), "mine\n");
    } else if (s->folder) {
        lb_err err = {0};
        char name[40];
        ok = lb_os_mkdir(out, false, &err) == LB_OK;
        static const char *const files[] = {"config.json", "tokenizer.json", "model.safetensors"};
        for (u32 i = 0; i < LB_LEN(files); i++) {
            (void)snprintf(name, sizeof name, "out/%s", files[i]);
            ok = ok && write_old(fk_path(dir, name), "old\n");
        }
        (void)snprintf(name, sizeof name, "out/%s", part_name(1, N_FILES));
        ok = ok && write_old(fk_path(dir, name), "an old file of the same name\n");
    } else {
        ok = write_old(out, "an old output\n");
    }
    return ok && (!s->sha256 || s->folder || write_old(fk_beside(s, dir, ".sha256"), "old sums\n"));
}

bool fk_reset(const fk_scene *s, const char *dir) {
    lb_err err = {0};
    const char *path = fk_path(dir, "");
    return lb_os_remove_tree(path, &err) == LB_OK && lb_os_mkdir(path, false, &err) == LB_OK &&
           (!s->force || make_old(s, dir));
}

static bool same_entry(const char *a, const char *b, u32 depth) {
    lb_fstat x, y;
    lb_str *names[2];
    u64 n[2];
    lb_arena arena = {0};
    lb_err err = {0};
    if (lb_os_stat_link(a, &x, &err) != LB_OK || lb_os_stat_link(b, &y, &err) != LB_OK ||
        x.is_dir != y.is_dir || x.is_file != y.is_file || depth > 4)
        return false;
    if (!x.is_dir)
        return x.size_bytes == y.size_bytes && lb_kit_same_file(a, b);
    bool same = lb_os_list(a, &arena, &names[0], &n[0], &err) == LB_OK &&
                lb_os_list(b, &arena, &names[1], &n[1], &err) == LB_OK && n[0] == n[1];
    for (u64 i = 0; same && i < n[0]; i++)
        same = lb_str_eq(names[0][i], names[1][i]) &&
               same_entry(lb_os_join(&arena, a, names[0][i]), lb_os_join(&arena, b, names[1][i]),
                          depth + 1);
    lb_arena_deinit(&arena);
    return same;
}

static bool same_at(const char *name, const char *dir, const char *other) {
    return same_entry(fk_path(dir, name), fk_path(other, name), 0);
}

bool fk_same(const char *dir_a, const char *dir_b) {
    return same_at("", dir_a, dir_b);
}

bool fk_nothing_half(const fk_scene *s, const char *dir, const char *want, const char *old) {
    if (s->spread) {
        const char *first = part_name(0, N_FILES), *stale = part_name(0, 5);
        bool is_new = true, is_old = true;
        for (u32 i = 0; i < N_FILES; i++) {
            is_new = is_new && same_at(part_name(i, N_FILES), dir, want);
            is_old = is_old && same_at(part_name(i, N_FILES), dir, old);
        }
        if (lb_os_exists(fk_path(dir, first)) && !is_new && !is_old)
            return false;
        for (u32 i = 0; i < 5 && lb_os_exists(fk_path(dir, stale)); i++)
            if (!same_at(part_name(i, 5), dir, old))
                return false;
    } else {
        const char *name = s->folder ? "out" : "out.gguf";
        if (lb_os_exists(fk_path(dir, name)) && !same_at(name, dir, want) &&
            !same_at(name, dir, old))
            return false;
        if (s->force && !s->no_exchange && !lb_os_exists(fk_path(dir, name)))
            return false; /* there is always one of them */
    }
    const char *sums = "out.gguf.sha256";
    if (!lb_os_exists(fk_path(dir, sums)))
        return true;
    bool new_out =
        s->spread ? same_at(part_name(0, N_FILES), dir, want) : same_at("out.gguf", dir, want);
    return same_at(sums, dir, new_out ? want : old);
}
