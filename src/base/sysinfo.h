/* SPDX-License-Identifier: Apache-2.0 */
/* sysinfo.h: what the machine is, for `lbrx info` and for choosing defaults. */
#ifndef LB_BASE_SYSINFO_H
#define LB_BASE_SYSINFO_H

#include "base/base.h"

/* Physical memory, or what the control group allows if that is less; 0 if unknown. */
u64 lb_sys_memory_bytes(void);
/* What this process may still fill, with its own or with a file's pages, before the system or its
 * control group must push something out: the caches of files, which give way, count as left. root:
 * "" (tests: a copy of /proc and /sys/fs/cgroup under another folder). */
u64 lb_sys_memory_left(const char *root);
/* "AMD EPYC 7B13"; empty if the system does not tell. */
const char *lb_sys_cpu_name(char *out, size_t cap);
/* What LBRX_CPU leaves of lb_cpu_isa(): all of it where it names no family. */
u32 lb_sys_isa(void);
/* "linux", "darwin" and "x86_64", "arm64". */
const char *lb_sys_os(void);
const char *lb_sys_arch(void);

#endif
