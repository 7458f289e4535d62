/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_journal.c: the journal of an interrupted run on any bytes.
 *
 * The first byte chooses: 's' seals every line with the check that it should have, so that what
 * stands behind the check is reached too, and puts the right head before them; else the bytes are
 * taken as they are. Checked: no crash; the length kept is that of whole lines. */
#include "base/os.h"
#include "plan/sink_internal.h"
#include <stdio.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

#define JOBS 3
#define TENSORS 2

static void put_sealed(lb_buf *out, const void *line, size_t len) {
    char hex[33];
    lb_hash_hex(lb_xxh128(line, len), hex);
    lb_buf_put(out, line, len);
    lb_buf_printf(out, "%.16s\n", hex);
}

static void seal(lb_str text, lb_buf *out) {
    char head[160], hex[33];
    lb_hash_hex((lb_hash128){1, 2}, hex);
    int n = snprintf(head, sizeof head, "lbrx-journal 2 %s %s ", LB_VERSION, hex);
    put_sealed(out, head, (size_t)n);
    while (text.len) {
        size_t end = 0;
        bool whole = lb_str_find(text, LB_STR("\n"), &end);
        if (!whole) {
            lb_buf_put_str(out, text);
            return;
        }
        put_sealed(out, text.ptr, end);
        text = lb_str_sub(text, end + 1, text.len);
    }
}

/* A file in memory, the same for all inputs: -1 where there is none. */
static int open_memory(void) {
#ifdef __linux__
    return memfd_create("journal", MFD_CLOEXEC);
#else
    int fd = -1;
    return lb_os_open_temp(NULL, &fd, NULL) == LB_OK ? fd : -1;
#endif
}

static void parse(lb_str text) {
    static int fd = -1; /* a fuzzer has one thread */
    lb_source source = {.n_tensors = TENSORS};
    const lb_source *sources[1] = {&source};
    lb_hash128 hashes[TENSORS] = {{0, 0}};
    u8 used[TENSORS] = {0}, kept[JOBS] = {0};
    lb_plan_source src = {.tensor_hash = hashes, .used = used};
    lb_stream streams[JOBS][2] = {{{0}}};
    lb_job jobs[JOBS] = {{.n_streams = 1}, {.n_streams = 2}, {.n_streams = 0}};
    lb_plan plan = {.jobs = jobs, .n_jobs = JOBS, .src = &src, .identity = {1, 2}};
    lb_sink sink = {.plan = &plan, .kept = kept, .o = {.path = "out"}, .journal_path = "journal"};
    lb_err err = {0};
    bool fresh = false;
    if (fd < 0)
        fd = open_memory();
    for (u32 i = 0; i < JOBS; i++) {
        jobs[i].streams = streams[i];
        for (u32 k = 0; k < 2; k++)
            streams[i][k] = (lb_stream){.dtype = LB_F16, .size_bytes = 1000};
    }
    plan.graph.sources = sources;
    plan.graph.n_sources = 1;
    sink.journal_fd = fd;
    LB_ASSERT(lb_os_truncate(fd, "journal", 0, &err) == LB_OK &&
              lb_os_pwrite(fd, "journal", text.ptr, text.len, 0, &err) == LB_OK);
    lb_status st = lb_journal_read(&sink, &fresh, &err);
    LB_ASSERT(st == LB_OK || (st == LB_E_FORMAT && err.msg[0]));
    LB_ASSERT(sink.journal_len <= text.len);
    LB_ASSERT(sink.journal_len == 0 || text.ptr[sink.journal_len - 1] == '\n');
    LB_ASSERT(!fresh || sink.journal_len == 0);
    LB_ASSERT(!kept[2]); /* a survey's answer is not in the journal */
    lb_arena_deinit(&sink.arena);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size) {
    lb_str text = {(const char *)data + 1, size ? size - 1 : 0};
    lb_buf sealed = {0};
    if (size && data[0] == 's') {
        seal(text, &sealed);
        text = lb_buf_str(&sealed);
    }
    if (size)
        parse(text);
    lb_buf_deinit(&sealed);
    return 0;
}
