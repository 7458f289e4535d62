/* SPDX-License-Identifier: Apache-2.0 */
/* test_plan_figures.c: what a plan says about itself holds: memory (measured by the kernel, and
 * under a hard limit of it), bytes read and written, time to plan; huge, tiny and odd inputs. */
#include "plan_double.h"
#include "plan_kit.h"
#include "test.h"
#include "base/os.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *in_dir(const char *name) {
    static char path[8][400];
    static u32 at;
    at = (at + 1) % LB_LEN(path);
    snprintf(path[at], sizeof path[at], "%s/%s", lb_test_dir(), name);
    return path[at];
}

static double seconds(u64 since_us) {
    return (double)(lb_test_cpu_us() - since_us) * 1e-6;
}

/* ---- plans that use all kinds of memory ---- */

enum { COPY, CAST, HELD, MASKS, TURNED, MANY, APART, N_KINDS };
static const char *const kind_names[] = {"copy",   "cast", "held", "masks",
                                         "turned", "many", "apart"};

/* 8 matrices of 500 x 1024 and 300 vectors: about 9 MiB. */
static lb_source *small_model(void) {
    lb_source *s = lb_source_new(LB_FORMAT_SAFETENSORS, in_dir("model"));
    u64 off = 0;
    u32 file = 0;
    bool ok = lb_kit_file(s, in_dir("small.bin"), 10 * LB_MIB, false, &file);
    for (u32 i = 0; i < 308 && ok; i++) {
        char name[32];
        snprintf(name, sizeof name, "t%u.weight", i);
        off += i % 3;
        ok = lb_kit_tensor(s, file, &off, name, i % 2 ? LB_F16 : LB_BF16,
                           (u64[]){i < 8 ? 500 : 1, 1024 + i % 2});
    }
    return s;
}

static lb_node_id values_of(lb_plan *p, u32 i) {
    return lb_expr_decode(&p->graph, lb_expr_read(&p->graph, 0, &p->graph.sources[0]->weights[i]));
}

static void add_output(lb_plan *p, lb_node_id x, lb_dtype t) {
    const lb_node *n = lb_graph_node(&p->graph, x);
    lb_stream st = {
        .name = LB_STR("out"), .dtype = t, .shape = &(lb_shape){2, {n->n_rows, n->n_cols}}};
    st.off_bytes = p->files[0].size_bytes;
    st.size_bytes = lb_kit_bytes(t, n->n_rows, n->n_cols);
    p->files[0].size_bytes += st.size_bytes;
    lb_plan_output(p, &st, lb_expr_encode(&p->graph, x, t));
}

static void add_held(lb_plan *p) {
    const u64 rank = lb_test_cases(300);
    lb_graph *g = &p->graph;
    for (u32 i = 0; i < 3; i++) {
        lb_node_id x = values_of(p, 2 * i),
                   a = lb_expr_rows(g, values_of(p, 2 * i + 2), 5, 1, rank);
        lb_node_id b = lb_expr_cols(g, values_of(p, 4), 3, rank);
        lb_node_id kth = lb_expr_stat(g, LB_STAT_KTH, x, LB_NODE_NONE, 1000);
        x = lb_expr_lowrank(g, x, b, a, 0.5f);
        x = lb_expr_map1(g, LB_MAP_MUL_C, x, (lb_scalar){.stat = kth, .fn = LB_SCALAR_INV});
        add_output(p, lb_expr_row(g, LB_ROW_L2, x), LB_BF16);
    }
    add_output(p,
               lb_expr_dense(g, LB_DENSE_GRAM, lb_expr_rows(g, values_of(p, 1), 0, 2, 200),
                             LB_NODE_NONE, 0),
               LB_F32);
}

static void add_masks(lb_plan *p) {
    lb_graph *g = &p->graph;
    u32 carry = lb_expr_carry(g, 3);
    for (u32 i = 0; i < 8; i++) {
        lb_node_id x = values_of(p, i);
        lb_node_id m = lb_expr_bernoulli(g, 500, 1024 + i % 2, 0.3, carry);
        add_output(p, lb_expr_map2(g, LB_MAP_MUL, x, m, LB_CONST(0)), LB_F16);
    }
}

static void add_turned(lb_plan *p) {
    lb_graph *g = &p->graph;
    u64 table[3000];
    for (u32 i = 0; i < LB_LEN(table); i++)
        table[i] = i * 7919 % 500;
    for (u32 i = 0; i < 4; i++) {
        add_output(p, lb_expr_transpose(g, values_of(p, i)), LB_BF16);
        add_output(p, lb_expr_gather(g, values_of(p, i), table, LB_LEN(table)), LB_BF16);
        add_output(p, lb_expr_cols(g, values_of(p, i), 1, 700), LB_F32);
    }
}

/* One output from 400 inputs: its program is large. */
static void add_many(lb_plan *p) {
    lb_graph *g = &p->graph;
    for (u32 k = 0; k < 3; k++) {
        lb_node_id x = values_of(p, 8);
        for (u32 i = 10; i < 300; i += 2)
            x = lb_expr_map2(g, LB_MAP_ADD, x, values_of(p, i), LB_CONST(0));
        add_output(p, x, LB_F32);
    }
}

/* What cannot be evaluated where it is wanted: whole matrices held, or in a temporary file. */
static void add_apart(lb_plan *p) {
    lb_graph *g = &p->graph;
    u64 table[2000];
    u32 carry = lb_expr_carry(g, 3);
    for (u32 i = 0; i < LB_LEN(table); i++)
        table[i] = i * 7919 % 1024;
    for (u32 i = 0; i < 4; i++) {
        lb_node_id x = lb_expr_transpose(g, lb_expr_row(g, LB_ROW_MEAN, values_of(p, i)));
        add_output(p, lb_expr_gather(g, x, table, LB_LEN(table)), LB_BF16);
        lb_node_id m = lb_expr_bernoulli(g, 500, 1024 + i % 2, 0.3, carry);
        lb_node_id y = lb_expr_map2(g, LB_MAP_MUL, values_of(p, i), m, LB_CONST(0));
        add_output(p, lb_expr_row(g, LB_ROW_L2, lb_expr_transpose(g, y)), LB_F32);
    }
}

static lb_plan *make_kind(const lb_source *s, u32 kind) {
    lb_err err = {0};
    lb_plan *p = NULL;
    if (kind == COPY || kind == CAST)
        return lb_kit_plan(s, kind == CAST, 1, &err);
    if (lb_plan_new(&p, &s, 1, &err) != LB_OK)
        return NULL;
    (void)lb_plan_file(p, LB_STR_NONE, 0);
    p->want_digests = kind != TURNED;
    if (kind == HELD)
        add_held(p);
    else if (kind == MASKS)
        add_masks(p);
    else if (kind == TURNED)
        add_turned(p);
    else if (kind == APART)
        add_apart(p);
    else
        add_many(p);
    return p;
}

static u64 named_mib(const char *msg) {
    const char *at = strstr(msg, "at least ");
    return at ? strtoull(at + 9, NULL, 10) : 0;
}

LB_TEST(smallest_budget) {
    lb_source *s = small_model();
    for (u32 kind = 0; kind < N_KINDS; kind++) {
        lb_plan *p = make_kind(s, kind);
        for (u32 threads = lb_test_full() ? 1 : 4; threads < (lb_test_full() ? 9 : 5);
             threads += 3) {
            lb_err err = {0}, below = {0};
            lb_run_report rep;
            lb_plan_limits lim = {.memory_bytes = 1, .threads = threads};
            CHECK(lb_plan_close(p, &lim, &err) == LB_E_LIMIT);
            u64 mib = named_mib(err.msg);
            CHECK(mib > 0 && mib < 64);
            lim.memory_bytes = (mib - 1) * LB_MIB;
            CHECK(lb_plan_close(p, &lim, &below) == LB_E_LIMIT);
            CHECK_U64(named_mib(below.msg), mib);
            lim.memory_bytes = mib * LB_MIB;
            CHECK_OK(lb_plan_close(p, &lim, &err));
            CHECK(p->peak_bytes <= lim.memory_bytes);
            CHECK_OK(lb_kit_run(p, NULL, NULL, NULL, &rep, &err));
            CHECK(rep.pool.peak_bytes <= p->pool_bytes);
            CHECK_U64(rep.bytes_read, p->read_bytes);
            CHECK_U64(rep.bytes_written, p->write_bytes);
            /* with room, all threads and no more memory than what speed needs */
            lim.memory_bytes = LB_GIB;
            CHECK_OK(lb_plan_close(p, &lim, &err));
            CHECK_U64(p->threads, threads);
            CHECK(p->peak_bytes < 256 * LB_MIB);
        }
        lb_plan_free(&p);
    }
    lb_source_close(&s);
}

/* ---- under the kernel's own limit ---- */

typedef struct watch {
    u64 data, calls;
} watch;

static void look(void *user, u64 done, u64 total) {
    watch *w = user;
    (void)done;
    (void)total;
    if (w->calls++ > 500 && w->calls % 32)
        return;
    u64 data = lb_kit_data_bytes();
    w->data = LB_MAX(w->data, data);
}

/* In a child: its figures go to the parent through a pipe. */
typedef struct figures {
    u64 planned, real, rss, budget;
    char msg[200];
} figures;

static void run_limited(const lb_source *s, u32 kind, u64 budget, u32 threads, figures *f) {
    lb_err err = {0};
    watch w = {0};
    lb_run_report rep;
    struct rlimit r = {budget + 16 * LB_MIB, budget + 16 * LB_MIB};
    lb_plan *p = make_kind(s, kind);
    lb_plan_limits lim = {.memory_bytes = budget ? budget : 1, .threads = threads};
    lb_status st = lb_plan_close(p, &lim, &err);
    if (budget == 0) { /* the smallest that it names */
        lim.memory_bytes = named_mib(err.msg) * LB_MIB;
        r.rlim_cur = r.rlim_max = lim.memory_bytes + 16 * LB_MIB;
        st = lb_plan_close(p, &lim, &err);
    }
    if (st == LB_OK && setrlimit(RLIMIT_DATA, &r) != 0)
        st = lb_fail(&err, LB_E_IO, "setrlimit");
    char out[400];
    snprintf(out, sizeof out, "%s/limited.bin", lb_test_dir());
    if (st == LB_OK)
        st = lb_kit_run(p, out, NULL, &(lb_run_options){.progress = look, .user = &w}, &rep, &err);
    *f = (figures){p->peak_bytes, w.data, lb_kit_peak_rss(), lim.memory_bytes, {0}};
    if (st != LB_OK)
        snprintf(f->msg, sizeof f->msg, "%.199s", err.msg);
}

static bool in_child(const lb_source *s, u32 kind, u64 budget, u32 threads, figures *f) {
    int pipes[2], status;
    if (pipe(pipes) != 0)
        return false;
    pid_t pid = fork();
    if (pid == 0) {
        run_limited(s, kind, budget, threads, f);
        _exit(write(pipes[1], f, sizeof *f) == (ssize_t)sizeof *f ? 0 : 1);
    }
    close(pipes[1]);
    bool ok = pid > 0 && read(pipes[0], f, sizeof *f) == (ssize_t)sizeof *f;
    close(pipes[0]);
    return waitpid(pid, &status, 0) == pid && ok && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

LB_TEST(memory_is_what_was_planned) {
    static const u64 budgets[] = {0, 24 * LB_MIB, 64 * LB_MIB};
    if (!lb_kit_memory_known()) {
        lb_test_skip("the kernel's figures are not those of the program here");
        return;
    }
    lb_source *s = small_model();
    bool verbose = getenv("LB_TEST_VERBOSE") != NULL;
    for (u32 kind = 0; kind < N_KINDS; kind++)
        for (u32 b = 0; b < LB_LEN(budgets); b++)
            for (u32 threads = 1 + b; threads <= 7; threads += 3) {
                figures f = {0};
                CHECK(in_child(s, kind, budgets[b], threads, &f));
                if (verbose)
                    fprintf(stderr,
                            "%-7s budget %4llu MiB, %u threads: planned %6llu KiB, data %6llu, "
                            "rss %6llu\n",
                            kind_names[kind], (unsigned long long)(f.budget / LB_MIB), threads,
                            (unsigned long long)(f.planned / LB_KIB),
                            (unsigned long long)(f.real / LB_KIB),
                            (unsigned long long)(f.rss / LB_KIB));
                if (f.msg[0])
                    lb_test_fail(__FILE__, __LINE__, "%s, %llu MiB, %u threads: %s",
                                 kind_names[kind], (unsigned long long)(f.budget / LB_MIB), threads,
                                 f.msg);
                CHECK(f.real > 0 && f.real <= f.planned);
                CHECK(f.planned <= f.budget);
                CHECK(f.rss < f.budget + 32 * LB_MIB);
                CHECK(f.planned < 3 * f.real + 4 * LB_MIB); /* nor wildly above */
            }
    lb_source_close(&s);
}

/* ---- huge ---- */

/* XXH3-128 of a range of a file. */
static lb_hash128 hash_file(const char *path, u64 from, u64 len) {
    static u8 buf[LB_MIB];
    lb_xxh h;
    int fd = -1;
    lb_err err = {0};
    lb_xxh_init(&h);
    if (lb_os_open_read(path, &fd, &err) == LB_OK)
        for (u64 at = 0; at < len; at += sizeof buf) {
            u64 n = LB_MIN(len - at, sizeof buf);
            if (lb_os_pread(fd, path, buf, n, from + at, &err) != LB_OK)
                break;
            lb_xxh_update(&h, buf, n);
        }
    lb_os_close(&fd);
    return lb_xxh_digest(&h);
}

static bool poke(const char *path, u64 off, u64 value) {
    u8 b[8];
    int fd = -1;
    lb_store_u64(b, value);
    bool ok = lb_os_open_write(path, false, &fd, NULL) == LB_OK &&
              lb_os_pwrite(fd, path, b, sizeof b, off, NULL) == LB_OK;
    lb_os_close(&fd);
    return ok;
}

#define MARK_EVERY (LB_GIB - 3000)
#define MARK 0x3f8040003d00bf80u

/* A tensor at byte 7 of a file of holes, but for a few words before, around and behind 4 GiB. Linux
 * reads holes of a file in /dev/shm without taking memory for them. */
static lb_source *holes(const char *name, lb_dtype t, u64 rows, u64 cols) {
    char path[400];
    lb_fstat st;
    bool shm = lb_os_stat("/dev/shm", &st, NULL) == LB_OK && st.is_dir;
    snprintf(path, sizeof path, "%s/lbrx-test-%d-%s", shm ? "/dev/shm" : lb_test_dir(),
             (int)getpid(), name);
    lb_source *s = lb_source_new(LB_FORMAT_SAFETENSORS, path);
    u64 size = lb_kit_bytes(t, rows, cols), off = 7;
    int fd = -1;
    u32 file = 0;
    bool ok = lb_os_open_write(path, false, &fd, NULL) == LB_OK &&
              lb_os_truncate(fd, path, size + 7, NULL) == LB_OK;
    for (u64 at = 0; ok && at + 8 <= size; at += MARK_EVERY)
        ok = poke(path, 7 + at, MARK + at);
    lb_os_close(&fd);
    ok = ok && lb_kit_file(s, path, size + 7, false, &file) &&
         lb_kit_tensor(s, file, &off, "huge.weight", t, (u64[]){rows, cols});
    if (!ok)
        lb_source_close(&s);
    return s;
}

#ifndef __SANITIZE_THREAD__ /* it would take minutes: each byte that is read has a shadow there */
/* The hash of that tensor, without its file. */
static lb_hash128 hash_holes(u64 size) {
    static u8 zeros[LB_MIB];
    lb_xxh h;
    u64 mark = 0;
    lb_xxh_init(&h);
    for (u64 at = 0; at < size;) {
        u8 word[8];
        u64 n = LB_MIN(LB_MIN(size, mark) - at, sizeof zeros);
        if (n == 0 && mark + 8 <= size) {
            lb_store_u64(word, MARK + mark);
            lb_xxh_update(&h, word, sizeof word);
            at += 8;
            mark += MARK_EVERY;
            continue;
        }
        lb_xxh_update(&h, zeros, n ? n : size - at);
        at += n ? n : size - at;
    }
    return lb_xxh_digest(&h);
}

/* One tensor of 4 GiB and a little: as a matrix, and as a single row that must be cut. */
LB_TEST(four_gigabytes) {
    static const u64 shapes[][2] = {{1, ((u64)1 << 31) + 24}, {65537, 32768}};
    for (u32 i = lb_test_full() ? 0 : 1; i < LB_LEN(shapes); i++) {
        lb_err err = {0};
        lb_run_report rep;
        lb_source *s = holes("huge.bin", LB_BF16, shapes[i][0], shapes[i][1]);
        CHECK(s);
        u64 size = s->tensors[0].size_bytes;
        CHECK(size > (u64)1 << 32);
        lb_plan *p = lb_kit_plan(s, false, 1, &err);
        CHECK_OK(
            lb_plan_close(p, &(lb_plan_limits){.memory_bytes = 64 * LB_MIB, .threads = 2}, &err));
        CHECK_U64(p->read_bytes, size);
        CHECK_U64(p->write_bytes, size);
        CHECK_OK(lb_kit_run(p, NULL, NULL, NULL, &rep, &err));
        CHECK_U64(rep.bytes_read, size);
        CHECK_U64(rep.bytes_written, size);
        CHECK_U64(rep.bytes_moved, 0);
        lb_hash128 h = hash_holes(size);
        CHECK(lb_hash_eq(h, p->jobs[0].streams[0].hash));
        CHECK(lb_hash_eq(h, p->src[0].tensor_hash[0]));
        CHECK(lb_kit_peak_rss() < 96 * LB_MIB);
        unlink(s->files[0].path);
        lb_plan_free(&p);
        lb_source_close(&s);
    }
}
#endif

typedef struct until {
    u64 bytes;
    u64 done;
} until;

static void count(void *user, u64 done, u64 total) {
    (void)total;
    ((until *)user)->done = done;
}

static bool enough(void *user) {
    return ((until *)user)->done >= ((until *)user)->bytes;
}

/* Larger than this machine's memory; the first part of it runs. */
LB_TEST(larger_than_memory) {
    static const u64 shapes[][2] = {{1, (u64)40 << 30}, {(u64)40 << 15, 32768}};
    for (u32 i = 0; i < LB_LEN(shapes); i++) {
        lb_err err = {0};
        lb_run_report rep;
        until u = {.bytes = lb_test_cases(600) * LB_MIB};
        lb_source *s = holes("larger.bin", LB_F32, shapes[i][0], shapes[i][1]); /* 160 GiB */
        CHECK(s);
        u64 begin = lb_test_cpu_us();
        lb_plan *p = lb_kit_plan(s, true, 1, &err);
        CHECK_OK(
            lb_plan_close(p, &(lb_plan_limits){.memory_bytes = 64 * LB_MIB, .threads = 2}, &err));
        CHECK(!lb_test_timed() || seconds(begin) < 0.5);
        lb_run_options o = {.progress = count, .stop = enough, .user = &u};
        CHECK(lb_kit_run(p, NULL, NULL, &o, &rep, &err) == LB_E_INTERRUPTED);
        CHECK(rep.bytes_read + rep.bytes_written < u.bytes + 64 * LB_MIB);
        CHECK_U64(rep.pool.outstanding, 0);
        CHECK(lb_kit_peak_rss() < 96 * LB_MIB);
        unlink(s->files[0].path);
        lb_plan_free(&p);
        lb_source_close(&s);
    }
}

/* ---- shapes of large models ---- */

typedef struct shape_of {
    const char *name;
    u64 layers, d, kv, ff, vocab, experts;
} shape_of;

static bool add_matrix(lb_source *s, u64 *off, const char *fmt, u64 layer, u64 rows, u64 cols) {
    char name[96];
    u32 file = (u32)s->n_files - 1;
    snprintf(name, sizeof name, fmt, (unsigned long long)layer);
    if (*off + rows * cols * 2 > s->files[file].size_bytes) {
        char path[100];
        snprintf(path, sizeof path, "shard-%u.safetensors", file + 1);
        if (!lb_kit_file(s, in_dir(path), 5 * LB_GIB, false, &file))
            return false;
        *off = 1000;
    }
    return lb_kit_tensor(s, file, off, name, LB_BF16, (u64[]){rows, cols});
}

static bool add_layer(lb_source *s, u64 *off, const shape_of *m, u64 l) {
    char name[96];
    bool ok = add_matrix(s, off, "layers.%llu.input_layernorm.weight", l, 1, m->d) &&
              add_matrix(s, off, "layers.%llu.q_proj.weight", l, m->d, m->d) &&
              add_matrix(s, off, "layers.%llu.k_proj.weight", l, m->kv, m->d) &&
              add_matrix(s, off, "layers.%llu.v_proj.weight", l, m->kv, m->d) &&
              add_matrix(s, off, "layers.%llu.o_proj.weight", l, m->d, m->d) &&
              add_matrix(s, off, "layers.%llu.post_attention_layernorm.weight", l, 1, m->d);
    for (u64 e = 0; ok && e < LB_MAX(m->experts, 1); e++)
        for (u32 k = 0; ok && k < 3; k++) {
            snprintf(name, sizeof name, "layers.%%llu.experts.%llu.%u.weight",
                     (unsigned long long)e, k);
            ok = add_matrix(s, off, name, l, k == 2 ? m->d : m->ff, k == 2 ? m->ff : m->d);
        }
    return ok;
}

static lb_source *model_of(const shape_of *m) {
    lb_source *s = lb_source_new(LB_FORMAT_SAFETENSORS, in_dir(m->name));
    u32 file;
    u64 off = 1000;
    bool ok = lb_kit_file(s, in_dir("shard-0.safetensors"), 5 * LB_GIB, false, &file) &&
              add_matrix(s, &off, "embed_tokens.weight", 0, m->vocab, m->d);
    for (u64 l = 0; ok && l < m->layers; l++)
        ok = add_layer(s, &off, m, l);
    return ok && add_matrix(s, &off, "lm_head.weight", 0, m->vocab, m->d) ? s : NULL;
}

/* All experts of one kind and layer are one output. */
static lb_plan *stacked_plan(const lb_source *s, u64 experts, lb_err *err) {
    lb_plan *p = NULL;
    if (lb_plan_new(&p, &s, 1, err) != LB_OK)
        return NULL;
    (void)lb_plan_file(p, LB_STR_NONE, 0);
    for (u64 i = 0; i < s->n_weights; i++) {
        const lb_weight *w = &s->weights[i];
        size_t at;
        bool expert = lb_str_find(w->name, LB_STR(".experts."), &at);
        if (expert && !lb_str_find(w->name, LB_STR(".experts.0."), &at))
            continue;
        u64 n = expert ? experts : 1;
        lb_stream st = {.name = w->name, .dtype = LB_BF16, .off_bytes = p->files[0].size_bytes};
        st.shape = &(lb_shape){3, {n, w->shape.dim[0], w->shape.dim[1]}};
        st.size_bytes = n * s->tensors[w->part[0]].size_bytes;
        p->files[0].size_bytes += st.size_bytes;
        if (!lb_plan_job(p, w->name, &st, 1))
            break;
        for (u64 e = 0; e < n; e++) {
            lb_node_id x = lb_expr_read(&p->graph, 0, w + 3 * e);
            if (w->shape.dim[0] % 128 == 0 && !expert)
                x = lb_expr_heads(&p->graph, x, w->shape.dim[0] / 128, false);
            x = lb_expr_encode(&p->graph, x, LB_BF16);
            lb_plan_segment(p, &x);
        }
    }
    p->want_digests = true;
    return p;
}

LB_TEST(large_models_plan_fast) {
    static const shape_of models[] = {
        {"70B", 80, 8192, 1024, 28672, 128256, 0},
        {"405B", 126, 16384, 1024, 53248, 128256, 0},
        {"1T", 61, 7168, 1024, 2048, 163840, 384},
    };
    for (u32 i = 0; i < LB_LEN(models); i++) {
        shape_of some = models[i];
        const shape_of *m = &some;
        some.layers = lb_test_cases(some.layers);
        lb_source *s = model_of(m);
        CHECK(s);
        for (u32 kind = 0; kind < 3; kind++) {
            lb_err err = {0};
            u64 begin = lb_test_cpu_us();
            lb_plan *p = kind == 2 ? stacked_plan(s, LB_MAX(m->experts, 1), &err)
                                   : lb_kit_plan(s, kind == 1, kind ? 300 : 1, &err);
            CHECK(p);
            CHECK_OK(lb_plan_close(p, &(lb_plan_limits){.memory_bytes = 512 * LB_MIB, .threads = 2},
                                   &err));
            double t = seconds(begin);
            fprintf(stderr, "%4s, %5llu tensors, %3llu shards, %6llu jobs: %.3f s, %llu MiB\n",
                    m->name, (unsigned long long)s->n_tensors, (unsigned long long)s->n_files,
                    (unsigned long long)p->n_jobs, t, (unsigned long long)(p->peak_bytes / LB_MIB));
            CHECK(!lb_test_timed() || t < 2);
            CHECK_U64(p->read_bytes, p->write_bytes);
            /* and in less, where a directory of 70,000 tensors leaves room */
            u64 least = m->experts ? 256 : 64;
            begin = lb_test_cpu_us();
            CHECK_OK(lb_plan_close(
                p, &(lb_plan_limits){.memory_bytes = least * LB_MIB, .threads = 2}, &err));
            CHECK(!lb_test_timed() || seconds(begin) < 2);
            lb_plan_free(&p);
        }
        for (u64 f = 0; f < s->n_files; f++)
            unlink(s->files[f].path);
        lb_source_close(&s);
    }
}

/* ---- many and odd ---- */

LB_TEST(hundred_thousand_tensors) {
    const u32 n = (u32)lb_test_cases(100000);
    lb_err err = {0};
    lb_run_report rep;
    lb_source *s = lb_source_new(LB_FORMAT_SAFETENSORS, in_dir("tiny"));
    u64 off = 0;
    u32 file;
    CHECK(lb_kit_file(s, in_dir("tiny.bin"), (u64)n * 64, true, &file));
    for (u32 i = 0; i < n; i++) {
        char name[32];
        snprintf(name, sizeof name, "tensor.%u", i);
        CHECK(lb_kit_tensor(s, file, &off, name, LB_F32, (u64[]){1, 16}));
    }
    u64 begin = lb_test_cpu_us();
    lb_plan *p = lb_kit_plan(s, false, 1, &err);
    CHECK_OK(lb_plan_close(p, &(lb_plan_limits){.memory_bytes = 256 * LB_MIB, .threads = 2}, &err));
    double planned = seconds(begin);
    lb_sink_options o = {.sync = true};
    CHECK_OK(lb_kit_run(p, in_dir("tiny.out"), &o, NULL, &rep, &err));
    double t = seconds(begin);
    fprintf(stderr, "%u tensors of 64 bytes: planned in %.3f s, done in %.3f s\n", n, planned, t);
    CHECK(lb_kit_same_file(in_dir("tiny.bin"), in_dir("tiny.out")));
    CHECK_U64(rep.bytes_read, (u64)n * 64);
    CHECK(rep.pool.allocations < 50);
    CHECK(rep.pool.reuses > n / 2);
    lb_plan_free(&p);
    lb_source_close(&s);
    CHECK(!lb_test_timed() || t < 3);
}

typedef struct open_files {
    u64 max;
} open_files;

static void count_files(void *user, u64 done, u64 total) {
    open_files *f = user;
    (void)done;
    (void)total;
    u64 n = lb_kit_open_files();
    f->max = LB_MAX(f->max, n);
}

LB_TEST(thousand_shards) {
    enum { N = 1000 };
    lb_err err = {0};
    lb_run_report rep;
    open_files seen = {0};
    lb_source *s = lb_source_new(LB_FORMAT_SAFETENSORS, in_dir("shards"));
    CHECK_OK(lb_os_mkdir(in_dir("shards"), false, &err));
    for (u32 i = 0; i < N; i++) {
        char name[64];
        u32 file;
        u64 off = i % 5;
        snprintf(name, sizeof name, "shards/%u", i);
        CHECK(lb_kit_file(s, in_dir(name), 500, true, &file));
        CHECK(lb_kit_tensor(s, file, &off, name, LB_F16, (u64[]){2 + i % 3, 11}));
        CHECK(lb_kit_tensor(s, file, &off, in_dir(name), LB_U8, (u64[]){1, 9}));
    }
    /* each job reads three shards: the last comes back round */
    lb_plan *p = lb_kit_plan(s, false, 100, &err);
    for (u32 i = 0; i < 100; i++) {
        lb_node_id x = lb_expr_fill(&p->graph, 2, 11, 0.0);
        for (u32 k = 0; k < 10; k++) {
            lb_node_id y = lb_expr_read(&p->graph, 0, &s->weights[2 * ((i * 17 + k * 101) % N)]);
            y = lb_expr_rows(&p->graph, lb_expr_decode(&p->graph, y), 0, 1, 2);
            x = lb_expr_map2(&p->graph, LB_MAP_ADD, x, y, LB_CONST(0));
        }
        lb_stream st = {
            .file = i, .name = LB_STR("sum"), .dtype = LB_F32, .shape = &(lb_shape){2, {2, 11}}};
        st.off_bytes = p->files[i].size_bytes;
        st.size_bytes = 88;
        p->files[i].size_bytes += 88;
        lb_plan_output(p, &st, lb_expr_encode(&p->graph, x, LB_F32));
    }
    CHECK_OK(lb_plan_close(p, &(lb_plan_limits){.memory_bytes = 64 * LB_MIB, .threads = 3}, &err));
    lb_sink_options o = {.folder = true, .sync = true};
    lb_run_options ro = {.progress = count_files, .user = &seen};
    CHECK_OK(lb_kit_run(p, in_dir("sharded"), &o, &ro, &rep, &err));
    fprintf(stderr, "1,000 shards: at most %llu descriptors\n", (unsigned long long)seen.max);
    CHECK(seen.max <= 256);
    CHECK(lb_kit_open_files() == 0 || seen.max > 200); /* they are kept open as long as they may */
    CHECK_U64(rep.bytes_read, p->read_bytes);
    lb_plan_free(&p);
    lb_source_close(&s);
}

/* Tensors without elements, in every form, among others at odd places. */
LB_TEST(zero_sizes_and_odd_alignments) {
    lb_err err = {0};
    lb_run_report rep;
    static const u64 shapes[][2] = {{0, 0}, {0, 5}, {5, 0}, {3, 7}, {1, 1}, {0, 256}, {2, 256}};
    lb_source *s = lb_source_new(LB_FORMAT_SAFETENSORS, in_dir("odd"));
    u32 file;
    u64 off = 1, want = 0;
    CHECK(lb_kit_file(s, in_dir("odd.bin"), 20000, true, &file));
    for (u32 i = 0; i < 5 * LB_LEN(shapes); i++) {
        static const lb_dtype types[] = {LB_F32, LB_BF16, LB_F16, LB_Q8_0, LB_Q4_K};
        const u64 *sh = shapes[i / 5];
        char name[32];
        snprintf(name, sizeof name, "odd.%u", i);
        lb_dtype t = sh[1] % 256 ? LB_F16 : types[i % 5];
        CHECK(lb_kit_tensor(s, file, &off, name, t, (u64[]){sh[0], sh[1]}));
        off += i % 4;
    }
    for (u32 cast = 0; cast < 2; cast++)
        for (u32 tile = 0; tile < 2; tile++) {
            lb_plan *p = lb_kit_plan(s, cast, 1, &err);
            lb_graph *g = &p->graph;
            if (cast) { /* statistics and moves of nothing */
                lb_node_id x = lb_expr_decode(g, lb_expr_read(g, 0, &s->weights[5]));
                lb_node_id sum = lb_expr_stat(g, LB_STAT_SUM, x, LB_NODE_NONE, 0);
                x = lb_expr_map1(g, LB_MAP_ADD_C, x, (lb_scalar){.stat = sum});
                add_output(p, lb_expr_row(g, LB_ROW_L2, x), LB_F32);
                add_output(p, lb_expr_transpose(g, x), LB_BF16);
                lb_node_id y = lb_expr_decode(g, lb_expr_read(g, 0, &s->weights[15]));
                y = lb_expr_map1(g, LB_MAP_ADD_C, y, (lb_scalar){.stat = sum});
                add_output(p, y, LB_F32);
            }
            lb_plan_limits lim = {.memory_bytes = 64 * LB_MIB, .threads = 2, .tile_bytes = tile};
            CHECK_OK(lb_plan_close(p, &lim, &err));
            CHECK_OK(lb_kit_run(p, in_dir("odd.out"), NULL, NULL, &rep, &err));
            CHECK_U64(rep.bytes_read, p->read_bytes);
            CHECK_U64(rep.bytes_written, p->write_bytes);
            want = 0;
            for (u64 j = 0; j < s->n_weights && !cast; j++) {
                const lb_tensor *t = &s->tensors[s->weights[j].part[0]];
                CHECK(lb_hash_eq(p->jobs[j].streams[0].hash,
                                 hash_file(s->files[0].path, t->off_bytes, t->size_bytes)));
                want += t->size_bytes;
            }
            CHECK(cast || rep.bytes_written == want);
            lb_plan_free(&p);
        }
    /* a plan of nothing at all */
    lb_plan *p = NULL;
    const lb_source *none = s;
    CHECK_OK(lb_plan_new(&p, &none, 1, &err));
    (void)lb_plan_file(p, LB_STR_NONE, 5);
    p->want_digests = true;
    CHECK_OK(lb_plan_close(p, &(lb_plan_limits){.memory_bytes = 64 * LB_MIB, .threads = 3}, &err));
    CHECK_OK(lb_kit_run(p, in_dir("nothing.out"), NULL, NULL, &rep, &err));
    lb_fstat st;
    CHECK_OK(lb_os_stat(in_dir("nothing.out"), &st, &err));
    CHECK_U64(st.size_bytes, 5);
    lb_plan_free(&p);
    lb_source_close(&s);
}

/* ---- bytes that are not touched ---- */

/* Moves of stored rows change what is read where, and nothing else. */
LB_TEST(moves_of_stored_rows_are_free) {
    static lb_double_decl decls[6];
    static const lb_dtype types[] = {LB_BF16, LB_Q4_K, LB_Q8_0, LB_F32, LB_Q4_0, LB_F16};
    lb_double_source d;
    for (u32 i = 0; i < LB_LEN(decls); i++)
        decls[i] = (lb_double_decl){.dtype = types[i], .n_rows = 64, .n_cols = 512};
    CHECK(lb_double_open(&d, decls, LB_LEN(decls), in_dir("moves.bin")));
    u64 table[100];
    for (u32 i = 0; i < LB_LEN(table); i++)
        table[i] = lb_test_rand_below(64);
    for (u32 tile = lb_test_full() ? 0 : 1; tile < (lb_test_full() ? 3 : 2); tile++) {
        lb_err err = {0};
        lb_run_report rep;
        lb_plan *p = NULL;
        const lb_source *s = d.src;
        CHECK_OK(lb_plan_new(&p, &s, 1, &err));
        (void)lb_plan_file(p, LB_STR_NONE, 0);
        lb_graph *g = &p->graph;
        u64 bytes = 0;
        for (u32 i = 0; i < LB_LEN(decls); i++) {
            lb_node_id x = lb_expr_read(g, 0, &s->weights[i]);
            add_output(p, lb_expr_rows(g, x, 3, 2, 20), types[i]);
            add_output(p, lb_expr_heads(g, x, 4, false), types[i]);
            add_output(p, lb_expr_heads(g, lb_expr_rows(g, x, 16, 1, 32), 2, true), types[i]);
            add_output(p, lb_expr_gather(g, x, table, LB_LEN(table)), types[i]);
            add_output(p, lb_expr_runs(g, x, 2, 5, 12, 23), types[i]);
            add_output(p, lb_expr_heads(g, lb_expr_runs(g, x, 8, 16, 24, 32), 2, false), types[i]);
            add_output(p, lb_expr_cols(g, x, 256, 256), types[i]);
            /* a stack of slices: segments of one stream */
            lb_stream st = {
                .name = LB_STR("stack"), .dtype = types[i], .shape = &(lb_shape){2, {96, 512}}};
            st.off_bytes = p->files[0].size_bytes;
            st.size_bytes = lb_kit_bytes(types[i], 96, 512);
            p->files[0].size_bytes += st.size_bytes;
            CHECK(lb_plan_job(p, st.name, &st, 1));
            for (u32 k = 0; k < 3; k++) {
                lb_node_id y = lb_expr_rows(g, x, 31 - 7 * k, 1, 32);
                y = lb_expr_encode(g, k == 1 ? lb_expr_heads(g, y, 2, false) : y, types[i]);
                lb_plan_segment(p, &y);
            }
            bytes += lb_kit_bytes(types[i], 20 + 64 + 32 + 100 + 23 + 32 + 32 + 96, 512);
        }
        static const u64 tiles[] = {1, 5000, 0};
        lb_plan_limits lim = {.memory_bytes = 64 * LB_MIB, .threads = 3, .tile_bytes = tiles[tile]};
        CHECK_OK(lb_plan_close(p, &lim, &err));
        CHECK_U64(p->read_bytes, bytes);
        CHECK_OK(lb_kit_run(p, NULL, NULL, NULL, &rep, &err));
        CHECK_U64(rep.bytes_moved, 0);
        CHECK_U64(rep.bytes_read, bytes);
        CHECK_U64(rep.bytes_written, bytes);
        for (u64 j = 0; j < p->n_jobs; j++) {
            lb_xxh h;
            lb_xxh_init(&h);
            for (u32 k = 0; k < p->jobs[j].n_segments; k++) {
                u64 len = 0;
                u8 *want = lb_double_bytes(g, p->jobs[j].segments[k].root[0], &len);
                CHECK(want);
                lb_xxh_update(&h, want, len);
                free(want);
            }
            CHECK(lb_hash_eq(lb_xxh_digest(&h), p->jobs[j].streams[0].hash));
        }
        lb_plan_free(&p);
    }
    lb_double_close(&d);
}

/* ---- graphs that a hostile recipe could ask for ---- */

LB_TEST(shared_and_deep_graphs) {
    lb_err err = {0};
    lb_run_report rep;
    lb_source *s = small_model();
    const lb_source *one = s;
    lb_plan *p = NULL;
    lb_plan_limits lim = {.memory_bytes = 64 * LB_MIB, .threads = 2};
    CHECK_OK(lb_plan_new(&p, &one, 1, &err));
    (void)lb_plan_file(p, LB_STR_NONE, 0);
    /* x = x + x, 200 times: as a tree, 2^200 nodes */
    lb_node_id x = values_of(p, 9);
    for (u32 i = 0; i < 200; i++)
        x = lb_expr_map2(&p->graph, LB_MAP_ADD, x, x, LB_CONST(0));
    add_output(p, x, LB_F32);
    u64 begin = lb_test_cpu_us();
    CHECK_OK(lb_plan_close(p, &lim, &err));
    lb_buf text = {0};
    lb_plan_print_job(p, &p->jobs[0], &text);
    CHECK(text.len > 1000 && text.len < 64000);
    lb_buf_deinit(&text);
    CHECK_OK(lb_kit_run(p, NULL, NULL, NULL, &rep, &err));
    CHECK(seconds(begin) < 5);
    /* deeper than a worker's stack may go: refused by name */
    for (u32 i = 0; i < 5000; i++)
        x = lb_expr_map1(&p->graph, LB_MAP_ADD_C, x, LB_CONST(1));
    add_output(p, x, LB_F32);
    CHECK(lb_plan_close(p, &lim, &err) == LB_E_LIMIT);
    CHECK(strstr(err.msg, "deeper"));
    lb_plan_free(&p);
    lb_source_close(&s);
}

/* Two plans that differ in one place are not the same plan. */
LB_TEST(identity) {
    enum { N = 24 };
    static double k = 0.5;
    lb_hash128 id[N];
    lb_err err = {0};
    lb_source *a = small_model(), *b = small_model();
    const lb_source *both[] = {a, b};
    for (u32 i = 0; i < N; i++) {
        lb_plan *p = NULL;
        CHECK_OK(lb_plan_new(&p, both, i == 1 ? 1 : 2, &err));
        lb_graph *g = &p->graph;
        (void)lb_plan_file(p, i == 2 ? LB_STR("x") : LB_STR_NONE, i == 3 ? 10 : 9);
        u32 carry = lb_expr_carry(g, i == 4 ? 8 : 7);
        u64 table[3] = {0, 1, i == 5 ? 1 : 2};
        float c[2] = {1, i == 6 ? 2 : 3};
        lb_node_id x = lb_expr_read(g, i == 7, &(i == 7 ? b : a)->weights[i == 8 ? 2 : 0]);
        x = lb_expr_gather(g, lb_expr_decode(g, x), table, 3);
        x = lb_expr_rows(g, x, i == 9, 1, 2);
        x = lb_expr_cols(g, x, i == 10, 2);
        x = lb_expr_map2(g, i == 11 ? LB_MAP_SUB : LB_MAP_ADD, x, lb_expr_const(g, 1, 2, c),
                         LB_CONST(0));
        x = lb_expr_map1(g, LB_MAP_MUL_C, x, LB_CONST(i == 12 ? k : 1));
        lb_node_id st = lb_expr_stat(g, LB_STAT_KTH, x, LB_NODE_NONE, i == 13 ? 2 : 1);
        x = lb_expr_map1(g, LB_MAP_MUL_C, x,
                         (lb_scalar){.stat = st, .result = i == 14, .fn = i == 15});
        lb_node_id mask = lb_expr_bernoulli(g, 2, 2, i == 16 ? 0.25 : 0.75, carry);
        x = lb_expr_map2(g, LB_MAP_MUL, x, mask, LB_CONST(0));
        x = lb_expr_lowrank(g, x, lb_expr_fill(g, 2, 1, i == 17), lb_expr_fill(g, 1, 2, 1),
                            i == 18 ? 1 : 2);
        if (i == 19)
            p->options = LB_STR("--more");
        p->want_digests = i == 20;
        lb_stream s = {.off_bytes = i == 21, .size_bytes = 8, .dtype = i == 22 ? LB_BF16 : LB_F16};
        s.name = i == 23 ? LB_STR("y") : LB_STR("z");
        lb_plan_output(p, &s, lb_expr_encode(g, x, s.dtype));
        CHECK_OK(lb_plan_close(p, &(lb_plan_limits){.memory_bytes = LB_GIB, .threads = 1}, &err));
        id[i] = p->identity;
        for (u32 j = 0; j < i; j++)
            if (lb_hash_eq(id[i], id[j]))
                lb_test_fail(__FILE__, __LINE__, "variants %u and %u have one identity", i, j);
        /* budget and threads are no part of it */
        CHECK_OK(
            lb_plan_close(p, &(lb_plan_limits){.memory_bytes = 32 * LB_MIB, .threads = 5}, &err));
        CHECK(lb_hash_eq(p->identity, id[i]));
        lb_plan_free(&p);
    }
    lb_source_close(&a);
    lb_source_close(&b);
}

LB_TEST_MAIN("slow")
