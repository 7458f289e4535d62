/* SPDX-License-Identifier: Apache-2.0 */
/* os_large.c: whether the system's cache has large pages for a file.
 *
 * Nothing of the mapping is touched but by madvise, so that a failure of the disk is no SIGBUS. */
#include "base/os.h"
#include <sys/mman.h>
#if defined(__linux__)
#include <sys/resource.h>
#include <sys/vfs.h>
#endif

#if defined(__linux__) && defined(MADV_HUGEPAGE) && defined(RUSAGE_THREAD)

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* Linux 5.14 */
#endif

/* File systems of this machine (a hole of another's is asked for by the network), with pages of
 * 4 KiB, of which a table has 512. */
static bool may_have(int fd) {
    struct statfs fs;
    if (lb_os_page_size() != 4096 || fstatfs(fd, &fs) != 0)
        return false;
    const u64 type = (u64)fs.f_type & UINT32_MAX;
    return type == 0xef53 || type == 0x58465342 || type == 0x9123683e; /* ext4, XFS, Btrfs */
}

/* Its first page is asked for, and with it what the system makes of large ones; when its last page
 * then costs no fault, one entry maps both. */
static bool one_entry(u8 *at) {
    struct rusage before, after;
    return madvise(at, LB_LARGE_PAGE, MADV_HUGEPAGE) == 0 &&
           madvise(at, LB_LARGE_PAGE, MADV_RANDOM) == 0 && /* no more than this one */
           madvise(at, 4096, MADV_POPULATE_READ) == 0 && getrusage(RUSAGE_THREAD, &before) == 0 &&
           madvise(at + LB_LARGE_PAGE - 4096, 4096, MADV_POPULATE_READ) == 0 &&
           getrusage(RUSAGE_THREAD, &after) == 0 && before.ru_minflt == after.ru_minflt &&
           before.ru_majflt == after.ru_majflt;
}

bool lb_os_in_large_page(int fd, u64 off) {
    if (!may_have(fd))
        return false;
    u8 *const room = mmap(NULL, 2 * LB_LARGE_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED)
        return false;
    u8 *const at = room + (LB_LARGE_PAGE - (uintptr_t)room % LB_LARGE_PAGE) % LB_LARGE_PAGE;
    const bool large =
        mmap(at, LB_LARGE_PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, (off_t)off) == at &&
        one_entry(at);
    (void)munmap(room, 2 * LB_LARGE_PAGE);
    return large;
}

#else

bool lb_os_in_large_page(int fd, u64 off) {
    (void)fd;
    (void)off;
    return false;
}

#endif
