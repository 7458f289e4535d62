/* SPDX-License-Identifier: Apache-2.0 */
/* lay.c: output in large pages of the system's cache, from which a mapped model is read faster.
 *
 * Linux makes pages of the cache as large as what is written at once, where that begins at a
 * multiple of their size: where two pieces meet, they become smaller and smaller, down to 4 KiB. So
 * a block at an end of a piece is filled up with zeros in the same write, unless a piece has been
 * there: the page is made, and pieces go into it. What is written twice costs what the small pages
 * did (docs/perf/LOG.md). Of a run that is resumed, nothing: what was there must stay. */
#include "base/os.h"
#include "plan/sink_internal.h"

/* Blocks of 256 KiB and more are read 2 to 4 % faster still, but the system has to get memory for
 * them where it has given it back (of a virtual machine): converting took a third longer. */
#define BLOCK LB_SINK_BLOCK

static u64 n_blocks(const lb_sink *s, u32 file) {
    return s->plan->files[file].size_bytes / BLOCK;
}

/* Whether the system has such pages is seen at the end of the largest file. */
lb_status lb_sink_lay_begin(lb_sink *s, lb_err *err) {
    int fd;
    u32 best = 0;
    for (u32 i = 1; i < s->plan->n_files; i++)
        if (n_blocks(s, i) > n_blocks(s, best))
            best = i;
    const u64 n_pages = s->plan->n_files ? n_blocks(s, best) * BLOCK / LB_LARGE_PAGE : 0;
    if (n_pages == 0)
        return LB_OK;
    LB_TRY(lb_sink_get_fd(s, best, &fd, err));
    const bool large = lb_os_in_large_page(fd, (n_pages - 1) * LB_LARGE_PAGE);
    lb_sink_put_fd(s, best);
    if (!large)
        return LB_OK;
    s->zeros = lb_alloc_zero(BLOCK, 1);
    for (u32 i = 0; i < s->plan->n_files; i++) {
        s->file[i].laid = lb_arena_new(&s->arena, u8, n_blocks(s, i) / 8 + 1);
        if (!s->zeros || !s->file[i].laid)
            return lb_fail(err, LB_E_NOMEM, "out of memory for the output");
    }
    return LB_OK;
}

/* Whether nothing was written to a block; now something is. */
static bool is_new(lb_sink_file *f, u64 block) {
    u8 *const bits = &f->laid[block / 8], bit = (u8)(1u << block % 8);
    const bool was = (*bits & bit) != 0;
    *bits |= bit;
    return !was;
}

lb_sink_pads lb_sink_lay(lb_sink *s, u32 file, u64 off, u64 len) {
    lb_sink_file *const f = &s->file[file];
    const u64 n = n_blocks(s, file), to = off + len, first = off / BLOCK, last = to / BLOCK;
    lb_sink_pads pads = {0, 0};
    if (!f->laid)
        return pads;
    if (off % BLOCK && first < n && is_new(f, first))
        pads.before = off % BLOCK;
    if (to % BLOCK && last < n && (is_new(f, last) || (last == first && pads.before)))
        pads.after = BLOCK - to % BLOCK;
    for (u64 i = (off + BLOCK - 1) / BLOCK; i < LB_MIN(last, n); i++)
        (void)is_new(f, i);
    return pads;
}
