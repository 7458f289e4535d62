/* SPDX-License-Identifier: Apache-2.0 */
/* quant_peer.c: our quantizers against libggml-base.so, block by block.
 *
 *     quant_peer LIBGGML [--type T] [--rows N] [--seed S] [--isa MASK]   compare
 *     quant_peer LIBGGML --golden                                       tests/golden/kern/quant.txt
 *     quant_peer LIBGGML --bench [--type T]                             times
 *
 * Every kind of rows (quant_rows.h) with every kind of importance. Each combination runs in a child
 * process, because ggml aborts on what it cannot quantize. Rows that ggml's own check of quantized
 * data refuses (llama-quantize stops there) and rows with a NaN are counted apart and need not be
 * equal. */
#include "base/cpu.h"
#include "kernel/kernel.h"
#include "quant_rows.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef size_t(chunk_fn)(int type, const float *src, void *dst, int64_t start, int64_t n_rows,
                         int64_t n_per_row, const float *importance);
typedef bool(valid_fn)(int type, const void *data, size_t bytes);

typedef void(init_fn)(int type);

typedef struct peer {
    chunk_fn *chunk;
    valid_fn *valid;
    u64 seed;
    size_t n_rows;
    u32 isa;
} peer;

typedef struct tally {
    u64 blocks, differ, refused, refused_differ, aborted;
} tally;

enum { MAX_ROW = 4096, MAX_BYTES = 4 * MAX_ROW };

static u64 combination(u64 seed, lb_dtype t, u32 kind, u32 importance) {
    return seed * 1000003u + (u64)t * 10007u + kind * 101u + importance;
}

/* A row in which ours differs from ggml's bytes. */
typedef struct difference {
    lb_dtype t;
    const char *rows, *importance;
    size_t row, n;
    const u8 *want, *got;
} difference;

static void print_difference(const difference *d) {
    const lb_dtype_info *info = lb_dtype_get(d->t);
    const size_t bytes = d->n / info->block_elems * info->block_bytes;
    size_t at = 0;
    while (at < bytes && d->want[at] == d->got[at])
        at++;
    printf("  %s %s/%s row %zu (%zu elements) block %zu byte %zu: %02x, ggml %02x\n", info->name,
           d->rows, d->importance, d->row, d->n, at / info->block_bytes, at % info->block_bytes,
           d->got[at], d->want[at]);
}

/* A NaN's code comes from its payload in ggml; here it is that of zero. */
static bool has_nan(const float *x, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (x[i] != x[i])
            return true;
    return false;
}

static tally compare(const peer *p, lb_dtype t, u32 kind, u32 importance) {
    static float x[MAX_ROW], w[MAX_ROW];
    static u8 want[MAX_BYTES], got[MAX_BYTES];
    const lb_dtype_info *info = lb_dtype_get(t);
    const u32 block = info->block_elems;
    const void *tables = quant_tables_new(t); /* the child ends with it */
    quant_rng r = {combination(p->seed, t, kind, importance)};
    lb_kernels k;
    lb_kernels_init(&k, p->isa);
    tally sum = {0};
    u32 shown = 0;
    for (size_t row = 0; row < p->n_rows; row++) {
        const size_t n =
            block * (1 + (size_t)(quant_rng_next(&r) % (row % 8 ? 9 : MAX_ROW / block)));
        const size_t bytes = n / block * info->block_bytes;
        quant_row(&r, kind, x, n);
        quant_importance(&r, importance, w, n);
        const float *weights = importance ? w : NULL;
        memset(want, 0xa5, bytes);
        memset(got, 0x5a, bytes);
        p->chunk(info->ggml, x, want, 0, 1, (int64_t)n, weights);
        lb_kernels_quant(&k, t)(n, got, x, weights, tables);
        const bool valid = p->valid(info->ggml, want, bytes) && !has_nan(x, n);
        const bool same = memcmp(want, got, bytes) == 0;
        sum.blocks += n / block;
        sum.refused += !valid;
        sum.refused_differ += !valid && !same;
        sum.differ += valid && !same;
        if (valid && !same && shown++ < 2)
            print_difference(&(difference){t, quant_row_kind(kind),
                                           quant_importance_kind(importance), row, n, want, got});
    }
    return sum;
}

/* In a child: ggml may abort. */
static tally compare_apart(const peer *p, lb_dtype t, u32 kind, u32 importance) {
    int fd[2];
    tally sum = {0};
    fflush(stdout);
    if (pipe(fd) != 0)
        exit(2);
    const pid_t child = fork();
    if (child == 0) {
        if (!freopen("/dev/null", "w", stderr))
            _exit(2);
        sum = compare(p, t, kind, importance);
        fflush(stdout);
        _exit(write(fd[1], &sum, sizeof sum) == (ssize_t)sizeof sum ? 0 : 2);
    }
    close(fd[1]);
    int status = 0;
    const bool whole = read(fd[0], &sum, sizeof sum) == (ssize_t)sizeof sum;
    close(fd[0]);
    waitpid(child, &status, 0);
    if (!whole) {
        memset(&sum, 0, sizeof sum);
        sum.aborted = WIFSIGNALED(status) && WTERMSIG(status) == 6; /* ggml_abort */
        sum.differ = !sum.aborted;
    }
    return sum;
}

static bool compare_type(const peer *p, lb_dtype t) {
    tally all = {0};
    for (u32 kind = 0; kind < QUANT_ROW_KINDS; kind++)
        for (u32 w = lb_quant_needs_importance(t); w < QUANT_IMPORTANCE_KINDS; w++) {
            const tally one = compare_apart(p, t, kind, w);
            if (one.differ)
                printf("  %s %s/%s: %llu rows differ%s\n", lb_dtype_get(t)->name,
                       quant_row_kind(kind), quant_importance_kind(w),
                       (unsigned long long)one.differ, one.aborted ? ", ggml aborts" : "");
            all.blocks += one.blocks;
            all.differ += one.differ;
            all.refused += one.refused;
            all.refused_differ += one.refused_differ;
            all.aborted += one.aborted;
        }
    printf("%-8s %llu blocks, %llu rows differ; ggml refuses %llu rows (%llu differ), aborts on "
           "%llu kinds\n",
           lb_dtype_get(t)->name, (unsigned long long)all.blocks, (unsigned long long)all.differ,
           (unsigned long long)all.refused, (unsigned long long)all.refused_differ,
           (unsigned long long)all.aborted);
    return all.differ == 0;
}

/* ---- tests/golden/kern/quant.txt ---- */

static bool row_by_ggml(void *ctx, lb_dtype t, size_t n, void *out, const float *x,
                        const float *importance) {
    const peer *p = ctx;
    const lb_dtype_info *info = lb_dtype_get(t);
    if (has_nan(x, n))
        return false;
    p->chunk(info->ggml, x, out, 0, 1, (int64_t)n, importance);
    return p->valid(info->ggml, out, n / info->block_elems * info->block_bytes);
}

/* Lines "type rows hash...": one hash for each kind of importance, - where ggml aborts or refuses
 * what it made. A child for each, as it may abort. */
static void golden(const peer *p, lb_dtype t) {
    for (u32 kind = 0; kind < QUANT_ROW_KINDS; kind++) {
        printf("%s %s", lb_dtype_get(t)->name, quant_row_kind(kind));
        for (u32 w = 0; w < QUANT_IMPORTANCE_KINDS; w++) {
            int status = 1;
            fflush(stdout);
            const pid_t child = fork();
            if (child != 0) {
                waitpid(child, &status, 0);
                printf(status ? " -" : "");
                continue;
            }
            u32 hash;
            peer mine = *p;
            if ((w == 0 && lb_quant_needs_importance(t)) || !freopen("/dev/null", "w", stderr) ||
                !quant_digest(row_by_ggml, &mine, t, kind, w, &hash))
                _exit(1);
            printf(" %08x", hash);
            fflush(stdout);
            _exit(0);
        }
        printf("\n");
    }
}

static double now(void) {
    struct timespec ts;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

static double time_of(const peer *p, lb_dtype t, bool weighted, bool ours, const float *x,
                      const float *w) {
    static u8 out[MAX_BYTES];
    void *tables = quant_tables_new(t);
    lb_kernels k;
    lb_kernels_init(&k, p->isa);
    double best = 1e9;
    for (int round = 0; round < 5; round++) {
        size_t n = 0;
        const double t0 = now();
        do { /* a look at the clock costs as much as some rows of q8_0: one for 16 */
            for (int i = 0; i < 16; i++, n++)
                if (ours)
                    lb_kernels_quant(&k, t)(MAX_ROW, out, x, weighted ? w : NULL, tables);
                else
                    p->chunk(lb_dtype_get(t)->ggml, x, out, 0, 1, MAX_ROW, weighted ? w : NULL);
        } while (now() - t0 < 0.03);
        const double ns = 1e9 * (now() - t0) / (double)(n * MAX_ROW);
        best = ns < best ? ns : best;
    }
    free(tables);
    return best;
}

static void bench(const peer *p, lb_dtype t) {
    static float x[MAX_ROW], w[MAX_ROW];
    quant_rng r = {1};
    quant_row(&r, 0, x, MAX_ROW);
    quant_importance(&r, 2, w, MAX_ROW);
    for (int weighted = lb_quant_needs_importance(t); weighted < 2; weighted++) {
        const double theirs = time_of(p, t, weighted, false, x, w),
                     ours = time_of(p, t, weighted, true, x, w);
        printf("%-8s %-10s ggml %8.3f ns, lbrx %8.3f ns an element: %.1f times\n",
               lb_dtype_get(t)->name, weighted ? "importance" : "", theirs, ours, theirs / ours);
    }
}

int main(int argc, char **argv) {
    peer p = {.seed = 1, .n_rows = 200, .isa = lb_cpu_isa()};
    const char *only = NULL;
    bool is_bench = false, is_golden = false;
    for (int i = 2; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--bench") == 0)
            is_bench = true;
        else if (strcmp(argv[i], "--golden") == 0)
            is_golden = true;
        else if (strcmp(argv[i], "--type") == 0)
            only = argv[++i];
        else if (strcmp(argv[i], "--rows") == 0)
            p.n_rows = strtoul(value, NULL, 10), i++;
        else if (strcmp(argv[i], "--seed") == 0)
            p.seed = strtoull(value, NULL, 10), i++;
        else if (strcmp(argv[i], "--isa") == 0)
            p.isa &= (u32)strtoul(value, NULL, 0), i++;
        else
            return 2;
    }
    setenv("GGML_NO_BACKTRACE", "1", 1); /* else an abort starts a debugger */
    void *lib = argc > 1 ? dlopen(argv[1], RTLD_NOW) : NULL;
    if (!lib) {
        fprintf(stderr, "quant_peer: %s\n", argc > 1 ? dlerror() : "name libggml-base.so");
        return 2;
    }
    void *chunk = dlsym(lib, "ggml_quantize_chunk"), *valid = dlsym(lib, "ggml_validate_row_data");
    void *init = dlsym(lib, "ggml_quantize_init");
    init_fn *init_ggml;
    memcpy(&init_ggml, &init, sizeof init);
    memcpy(&p.chunk, &chunk, sizeof chunk);
    memcpy(&p.valid, &valid, sizeof valid);
    if (!p.chunk || !p.valid || !init)
        return 2;
    bool ok = true;
    lb_dtype t;
    for (size_t i = 0; quant_type(i, &t); i++) {
        if (only && strcmp(only, lb_dtype_get(t)->name) != 0)
            continue;
        init_ggml(lb_dtype_get(t)->ggml); /* its tables, once for all children */
        if (is_bench)
            bench(&p, t);
        else if (is_golden)
            golden(&p, t);
        else
            ok &= compare_type(&p, t);
    }
    return ok ? 0 : 1;
}
