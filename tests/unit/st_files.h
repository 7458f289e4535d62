/* SPDX-License-Identifier: Apache-2.0 */
/* st_files.h: safetensors files and folders made for tests: real headers, holes for data. */
#ifndef LB_TESTS_ST_FILES_H
#define LB_TESTS_ST_FILES_H

#include "base/base.h"
#include "base/mem.h"

/* A fresh folder "<test dir>/<name>"; the path lives until the 8th call from now, st_path's 16. */
const char *st_dir(const char *name);
const char *st_path(const char *dir, const char *name);
/* Each ends the program on an I/O error. */
void st_write(const char *dir, const char *name, const void *bytes, size_t len);
void st_text(const char *dir, const char *name, const char *text);
void st_copy(const char *from, const char *dir, const char *name);
/* A file of these header bytes (length added in front) and data_bytes of zeros. */
void st_raw(const char *dir, const char *name, const char *header, u64 data_bytes);
/* Tensors as "name DTYPE d0 d1 ...;name2 ..."; format: __metadata__.format, NULL for none. */
void st_file(const char *dir, const char *name, const char *format, const char *tensors);
/* Whole file; freed with lb_free. */
u8 *st_slurp(const char *path, size_t *len);

#endif
