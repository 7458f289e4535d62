/* SPDX-License-Identifier: Apache-2.0 */
/* torch_pickle.c: the names of torch.save's pickles, and what calling them makes.
 *
 *   persistent id ('storage', StorageClass, key, location, elements[, view of the legacy form])
 *   _rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks[, metadata])
 *   _rebuild_tensor_v3(... hooks, dtype[, metadata])   of an UntypedStorage, counted in bytes
 *   _rebuild_parameter(tensor, requires_grad, hooks)
 *   _rebuild_from_type_v2(function, class, arguments, attributes)   of a tensor with attributes
 */
#include "format/torch_pickle.h"

typedef unsigned long long ull;

typedef enum name_kind {
    NAME_ORDERED,
    NAME_SIZE,
    NAME_REBUILD,   /* arg: version 1, 2, 3 */
    NAME_PARAMETER, /* arg: number of arguments */
    NAME_STORAGE,   /* arg: lb_dtype */
    NAME_DTYPE,     /* arg: lb_dtype */
    NAME_FROM_TYPE,
    NAME_CLASS,  /* of a tensor */
    NAME_SET,    /* of a list */
    NAME_ENCODE, /* how protocol 2 says bytes */
    NAME_BYTES,  /* none */
    NAME_DEVICE
} name_kind;

static const struct {
    const char *module, *name;
    name_kind kind;
    u32 arg;
} names[] = {
    {"collections", "OrderedDict", NAME_ORDERED, 0},
    {"torch", "Size", NAME_SIZE, 0},
    {"torch._utils", "_rebuild_tensor", NAME_REBUILD, 1},
    {"torch._utils", "_rebuild_tensor_v2", NAME_REBUILD, 2},
    {"torch._utils", "_rebuild_tensor_v3", NAME_REBUILD, 3},
    {"torch._utils", "_rebuild_parameter", NAME_PARAMETER, 3},
    {"torch._utils", "_rebuild_parameter_with_state", NAME_PARAMETER, 4},
    {"torch._tensor", "_rebuild_from_type_v2", NAME_FROM_TYPE, 0},
    {"torch", "Tensor", NAME_CLASS, 0},
    {"torch.nn.parameter", "Parameter", NAME_CLASS, 0},
    {"torch.nn.parameter", "Buffer", NAME_CLASS, 0},
    {"__builtin__", "set", NAME_SET, 0},
    {"builtins", "set", NAME_SET, 0},
    {"__builtin__", "frozenset", NAME_SET, 0},
    {"builtins", "frozenset", NAME_SET, 0},
    {"_codecs", "encode", NAME_ENCODE, 0},
    {"__builtin__", "bytes", NAME_BYTES, 0},
    {"builtins", "bytes", NAME_BYTES, 0},
    {"torch", "device", NAME_DEVICE, 0},
    {"torch", "FloatStorage", NAME_STORAGE, LB_F32},
    {"torch", "HalfStorage", NAME_STORAGE, LB_F16},
    {"torch", "BFloat16Storage", NAME_STORAGE, LB_BF16},
    {"torch", "DoubleStorage", NAME_STORAGE, LB_F64},
    {"torch", "LongStorage", NAME_STORAGE, LB_I64},
    {"torch", "IntStorage", NAME_STORAGE, LB_I32},
    {"torch", "ShortStorage", NAME_STORAGE, LB_I16},
    {"torch", "CharStorage", NAME_STORAGE, LB_I8},
    {"torch", "ByteStorage", NAME_STORAGE, LB_U8},
    {"torch", "BoolStorage", NAME_STORAGE, LB_BOOL},
    {"torch", "ComplexFloatStorage", NAME_STORAGE, LB_C64},
    {"torch.storage", "UntypedStorage", NAME_STORAGE, LB_U8},
    {"torch", "UntypedStorage", NAME_STORAGE, LB_U8},
    {"torch", "float32", NAME_DTYPE, LB_F32},
    {"torch", "float16", NAME_DTYPE, LB_F16},
    {"torch", "bfloat16", NAME_DTYPE, LB_BF16},
    {"torch", "float64", NAME_DTYPE, LB_F64},
    {"torch", "int64", NAME_DTYPE, LB_I64},
    {"torch", "int32", NAME_DTYPE, LB_I32},
    {"torch", "int16", NAME_DTYPE, LB_I16},
    {"torch", "int8", NAME_DTYPE, LB_I8},
    {"torch", "uint8", NAME_DTYPE, LB_U8},
    {"torch", "uint16", NAME_DTYPE, LB_U16},
    {"torch", "uint32", NAME_DTYPE, LB_U32},
    {"torch", "uint64", NAME_DTYPE, LB_U64},
    {"torch", "bool", NAME_DTYPE, LB_BOOL},
    {"torch", "complex64", NAME_DTYPE, LB_C64},
    {"torch", "float8_e4m3fn", NAME_DTYPE, LB_F8_E4M3},
    {"torch", "float8_e5m2", NAME_DTYPE, LB_F8_E5M2},
    {"torch", "float8_e4m3fnuz", NAME_DTYPE, LB_F8_E4M3FNUZ},
    {"torch", "float8_e5m2fnuz", NAME_DTYPE, LB_F8_E5M2FNUZ},
    {"torch", "float8_e8m0fnu", NAME_DTYPE, LB_F8_E8M0},
};

/* A storage, or (legacy form) a part of one. */
typedef struct view {
    u64 storage; /* index */
    u64 first, n_elems;
} view;

typedef struct tensor {
    const view *view;
    const lb_pv *size, *stride; /* tuples of integers */
    u64 off_elems;
    lb_dtype dtype;
} tensor;

static bool find_name(void *ctx, lb_str module, lb_str name, u32 *id) {
    (void)ctx;
    for (u32 i = 0; i < LB_LEN(names); i++)
        if (lb_str_eq_c(module, names[i].module) && lb_str_eq_c(name, names[i].name)) {
            *id = i;
            return true;
        }
    return false;
}

static lb_status refuse(lb_pickle *p, const char *what) {
    return lb_pickle_fail(p, LB_E_UNSUPPORTED, "%s", what);
}

static lb_status make(lb_pickle *p, lb_torch *t, u32 id, const void *bytes, size_t size_bytes,
                      lb_pv **out) {
    void *object = lb_arena_push(t->perm, size_bytes, _Alignof(u64));
    *out = lb_pickle_new(p, LB_PV_OBJECT);
    if (!object || !*out)
        return lb_pickle_no_memory(p);
    memcpy(object, bytes, size_bytes);
    (*out)->id = id;
    (*out)->u.object = object;
    return LB_OK;
}

static bool is_count(const lb_pv *v) {
    return v->kind == LB_PV_INT && v->u.i >= 0;
}

/* ---- storages ---- */

static lb_status add_storage(lb_pickle *p, lb_torch *t, lb_torch_storage s) {
    if (t->zip) {
        lb_buf_reset(&t->name);
        lb_buf_put_str(&t->name, t->folder);
        lb_buf_put_c(&t->name, "/data/");
        lb_buf_put_str(&t->name, s.key);
        LB_TRY(lb_buf_status(&t->name, t->err));
        const lb_zip_entry *e = lb_zip_find(t->zip, lb_buf_str(&t->name));
        if (!e)
            return lb_pickle_fail(p, LB_E_FORMAT,
                                  "names storage '%.*s', which the archive does not "
                                  "have",
                                  LB_FMT(lb_str_sub(s.key, 0, 100)));
        if (e->size_bytes != s.size_bytes)
            return lb_pickle_fail(
                p, LB_E_FORMAT, "says that storage '%.*s' has %llu bytes, its entry has %llu",
                LB_FMT(lb_str_sub(s.key, 0, 100)), (ull)s.size_bytes, (ull)e->size_bytes);
        s.off_bytes = e->off_bytes;
        s.is_placed = true;
    }
    if (t->n_storages == t->cap_storages) {
        u64 cap = t->cap_storages ? t->cap_storages * 2 : 64;
        lb_torch_storage *wider = lb_realloc(t->storages, (size_t)cap * sizeof *wider);
        if (!wider)
            return lb_pickle_no_memory(p);
        t->storages = wider;
        t->cap_storages = cap;
    }
    LB_TRY(lb_map_put(&t->by_key, s.key, t->n_storages, NULL, t->err));
    t->storages[t->n_storages++] = s;
    return LB_OK;
}

/* (view key, first element, elements) of the legacy form, or None. */
static lb_status narrow(lb_pickle *p, const lb_pv *v, view *out) {
    if (v->kind == LB_PV_NONE)
        return LB_OK;
    if (v->kind != LB_PV_TUPLE || v->n != 3 || !is_count(v->u.items[1]) || !is_count(v->u.items[2]))
        return refuse(p, "of a storage whose view is no (key, offset, size)");
    u64 first = (u64)v->u.items[1]->u.i, n = (u64)v->u.items[2]->u.i;
    if (first > out->n_elems || n > out->n_elems - first)
        return lb_pickle_fail(p, LB_E_FORMAT, "of elements %llu to %llu of a storage that has %llu",
                              (ull)first, (ull)first + n, (ull)out->n_elems);
    out->first = first;
    out->n_elems = n;
    return LB_OK;
}

static lb_status persistent(void *ctx, lb_pickle *p, const lb_pv *id, lb_pv **out) {
    lb_torch *t = ctx;
    u32 n = t->zip ? 5 : 6;
    if (id->kind != LB_PV_TUPLE || id->n == 0 || id->u.items[0]->kind != LB_PV_STR)
        return refuse(p, "of what is no ('storage', ...) is refused");
    lb_pv *const *a = id->u.items;
    if (!lb_str_eq_c(lb_pv_str(a[0]), "storage"))
        return lb_pickle_fail(p, LB_E_UNSUPPORTED, "of a '%.*s' is refused: only storages are read",
                              LB_FMT(lb_str_sub(lb_pv_str(a[0]), 0, 40)));
    if (id->n != n || a[2]->kind != LB_PV_STR || !is_count(a[4]))
        return refuse(p, "of a storage that is not (class, key, location, elements) is refused");
    if (a[1]->kind != LB_PV_NAME || names[a[1]->id].kind != NAME_STORAGE)
        return refuse(p, "of a storage of an unknown class is refused");
    lb_torch_storage s = {
        .key = lb_pv_str(a[2]), .dtype = (lb_dtype)names[a[1]->id].arg, .n_elems = (u64)a[4]->u.i};
    if (!lb_dtype_bytes(s.dtype, s.n_elems, &s.size_bytes))
        return lb_pickle_fail(p, LB_E_FORMAT, "of a storage of %llu elements", (ull)s.n_elems);
    view v = {.n_elems = s.n_elems};
    if (lb_map_find(&t->by_key, s.key, &v.storage)) {
        const lb_torch_storage *first = &t->storages[v.storage];
        if (first->dtype != s.dtype || first->n_elems != s.n_elems)
            return lb_pickle_fail(p, LB_E_FORMAT,
                                  "of storage '%.*s', which had another type or size before",
                                  LB_FMT(lb_str_sub(s.key, 0, 100)));
    } else {
        v.storage = t->n_storages;
        LB_TRY(add_storage(p, t, s));
    }
    if (n == 6)
        LB_TRY(narrow(p, a[5], &v));
    return make(p, t, LB_TORCH_STORAGE, &v, sizeof v, out);
}

/* ---- calls ---- */

static bool is_counts(const lb_pv *v) {
    if (v->kind != LB_PV_TUPLE)
        return false;
    for (u32 i = 0; i < v->n; i++)
        if (!is_count(v->u.items[i]))
            return false;
    return true;
}

static bool is_empty(const lb_pv *v) {
    return v->kind == LB_PV_NONE ||
           ((v->kind == LB_PV_DICT || v->kind == LB_PV_TUPLE) && v->n == 0);
}

static lb_status rebuild(lb_pickle *p, lb_torch *t, u32 version, const lb_pv *args, lb_pv **out) {
    static const u32 n_args[] = {0, 4, 6, 7};
    lb_pv *const *a = args->u.items;
    u32 n = n_args[version];
    if (args->n != n && (version == 1 || args->n != n + 1))
        return lb_pickle_fail(p, LB_E_UNSUPPORTED, "of a tensor with %u arguments is refused",
                              args->n);
    if (a[0]->kind != LB_PV_OBJECT || a[0]->id != LB_TORCH_STORAGE)
        return lb_pickle_fail(p, LB_E_UNSUPPORTED, "of a tensor over %s is refused",
                              lb_pv_kind_name(a[0]));
    if (!is_count(a[1]) || !is_counts(a[2]) || !is_counts(a[3]) || a[2]->n != a[3]->n)
        return lb_pickle_fail(p, LB_E_FORMAT,
                              "of a tensor whose offset, size and stride do not fit");
    /* hooks are code; metadata says that the values are conjugated or negated */
    if ((version > 1 && !is_empty(a[5])) || (args->n == n + 1 && !is_empty(a[n])))
        return refuse(p, "of a tensor with hooks or metadata is refused");
    const view *v = a[0]->u.object;
    tensor x = {.view = v,
                .size = a[2],
                .stride = a[3],
                .off_elems = (u64)a[1]->u.i,
                .dtype = t->storages[v->storage].dtype};
    if (version == 3) {
        if (a[6]->kind != LB_PV_NAME || names[a[6]->id].kind != NAME_DTYPE)
            return refuse(p, "of a tensor of an unknown type is refused");
        x.dtype = (lb_dtype)names[a[6]->id].arg;
    }
    return make(p, t, LB_TORCH_TENSOR, &x, sizeof x, out);
}

static lb_status parameter(lb_pickle *p, u32 n_args, const lb_pv *args, lb_pv **out) {
    if (args->n != n_args || !lb_torch_is_tensor(args->u.items[0]) || !is_empty(args->u.items[2]))
        return refuse(p, "of a parameter that is not (tensor, requires_grad, no hooks) is "
                         "refused");
    *out = args->u.items[0];
    return LB_OK;
}

/* The attributes mean nothing here, as those of a parameter. */
static lb_status from_type(lb_pickle *p, lb_torch *t, const lb_pv *args, lb_pv **out) {
    lb_pv *const *a = args->u.items;
    if (args->n != 4 || a[0]->kind != LB_PV_NAME || a[1]->kind != LB_PV_NAME ||
        names[a[1]->id].kind != NAME_CLASS || a[2]->kind != LB_PV_TUPLE)
        return refuse(p, "of a tensor that is not (function, class, arguments, attributes) is "
                         "refused");
    if (names[a[0]->id].kind == NAME_REBUILD)
        return rebuild(p, t, names[a[0]->id].arg, a[2], out);
    if (names[a[0]->id].kind == NAME_PARAMETER)
        return parameter(p, names[a[0]->id].arg, a[2], out);
    return refuse(p, "of a tensor by another function is refused");
}

/* What is kept of a value that is no container of tensors: that it is there. */
static lb_status plain_value(lb_pickle *p, lb_pv_kind kind, lb_pv **out) {
    *out = lb_pickle_new(p, kind);
    return *out ? LB_OK : lb_pickle_no_memory(p);
}

static lb_status call(void *ctx, lb_pickle *p, u32 id, const lb_pv *args, lb_pv **out) {
    switch (names[id].kind) {
    case NAME_ORDERED:
        if (args->n)
            return refuse(p, "of an OrderedDict with arguments is refused");
        *out = lb_pickle_new(p, LB_PV_DICT);
        if (*out)
            (*out)->is_ordered = true;
        return *out ? LB_OK : lb_pickle_no_memory(p);
    case NAME_SIZE:
        if (args->n != 1 || args->u.items[0]->kind != LB_PV_TUPLE)
            return refuse(p, "of a torch.Size that is no tuple is refused");
        *out = args->u.items[0];
        return LB_OK;
    case NAME_REBUILD:
        return rebuild(p, ctx, names[id].arg, args, out);
    case NAME_PARAMETER:
        return parameter(p, names[id].arg, args, out);
    case NAME_FROM_TYPE:
        return from_type(p, ctx, args, out);
    case NAME_SET:
        if (args->n > 1 || (args->n && args->u.items[0]->kind != LB_PV_LIST))
            return refuse(p, "of a set that is not of a list is refused");
        if (args->n == 0)
            return plain_value(p, LB_PV_LIST, out);
        *out = args->u.items[0];
        return LB_OK;
    case NAME_ENCODE:
        if (args->n != 2 || args->u.items[0]->kind != LB_PV_STR ||
            args->u.items[1]->kind != LB_PV_STR)
            return refuse(p, "of bytes that are no string is refused");
        return plain_value(p, LB_PV_BYTES, out);
    case NAME_BYTES:
        if (args->n)
            return refuse(p, "of bytes with arguments is refused");
        return plain_value(p, LB_PV_BYTES, out);
    case NAME_DEVICE:
        return plain_value(p, LB_PV_NONE, out);
    case NAME_STORAGE:
    case NAME_DTYPE:
    case NAME_CLASS:
        break;
    }
    return lb_pickle_fail(p, LB_E_UNSUPPORTED,
                          "of '%s.%s' is refused: only tensors and containers "
                          "are read",
                          names[id].module, names[id].name);
}

/* ---- a tensor's place ---- */

/* Whether dimensions from..to (not included) are walked in equal steps: *step between the elements
 * of what they fold to, 1 where there is only one. */
static bool folds(const tensor *x, const lb_shape *s, u32 from, u32 to, u64 *step) {
    u64 n = 1;
    *step = 1;
    for (u32 i = to; i-- > from;) {
        u64 stride = (u64)x->stride->u.items[i]->u.i, want;
        if (s->dim[i] == 1)
            continue;
        if (n == 1)
            *step = stride;
        else if (!lb_mul_u64(*step, n, &want) || stride != want)
            return false;
        n *= s->dim[i];
    }
    return true;
}

/* Floats whose rows or columns are lines of neighbours at equal distances, none in another. */
static bool is_view(const tensor *x, const lb_shape *s, u8 *lies, u64 *n_bytes) {
    u64 rows, cols, row_step, col_step, n;
    u32 last = s->rank ? s->rank - 1 : 0;
    if (x->dtype != LB_F32 && x->dtype != LB_F16 && x->dtype != LB_BF16)
        return false;
    lb_shape_matrix(s, &rows, &cols);
    if (rows == 1 || cols == 1) /* vectors are read in many ways */
        return false;
    if (!folds(x, s, 0, last, &row_step) || !folds(x, s, last, s->rank, &col_step))
        return false;
    bool turned = col_step != 1;
    u64 lines = turned ? cols : rows, line = turned ? rows : cols;
    u64 stride = turned ? col_step : row_step;
    *lies = turned ? LB_LIES_TURNED : LB_LIES_LINES;
    return (!turned || row_step == 1) && stride >= line && lb_mul_u64(lines - 1, stride, &n) &&
           lb_add_u64(n, line, &n) && lb_dtype_bytes(x->dtype, n, n_bytes);
}

/* Whether the elements stand one behind the other in row-major order. The stride of a dimension of
 * one says nothing. */
static bool is_contiguous(const tensor *x, const lb_shape *s) {
    u64 want = 1;
    for (u32 i = s->rank; i-- > 0;) {
        if (s->dim[i] != 1 && (u64)x->stride->u.items[i]->u.i != want)
            return false;
        if (!lb_mul_u64(want, s->dim[i], &want))
            return false;
    }
    return true;
}

static lb_status refuse_strides(const tensor *x, const lb_shape *shape, lb_str name,
                                const char *path, lb_err *err) {
    char size[LB_SHAPE_TEXT], strides[LB_SHAPE_TEXT];
    lb_shape s = {.rank = shape->rank};
    for (u32 i = 0; i < s.rank; i++)
        s.dim[i] = (u64)x->stride->u.items[i]->u.i;
    return lb_fail(
        err, LB_E_UNSUPPORTED,
        "%s: tensor '%.*s' of shape %s is a view with strides %s: not supported, save it "
        "with .contiguous()",
        path, LB_FMT(lb_str_sub(name, 0, 200)), lb_shape_text(shape, size),
        lb_shape_text(&s, strides));
}

lb_status lb_torch_place(const lb_torch *t, const lb_pv *value, lb_str name, const char *path,
                         lb_tensor *out, lb_err *err) {
    const tensor *x = value->u.object;
    const lb_torch_storage *s = &t->storages[x->view->storage];
    u64 first = 0, room = 0, skip = 0;
    char text[LB_SHAPE_TEXT];
    *out = (lb_tensor){.name = name, .dtype = x->dtype};
    if (x->size->n > LB_RANK_MAX)
        return lb_fail(err, LB_E_UNSUPPORTED, "%s: tensor '%.*s': %u dimensions; at most %d", path,
                       LB_FMT(lb_str_sub(name, 0, 200)), x->size->n, LB_RANK_MAX);
    out->shape.rank = x->size->n;
    for (u32 i = 0; i < out->shape.rank; i++)
        out->shape.dim[i] = (u64)x->size->u.items[i]->u.i;
    bool fits = lb_shape_elems(&out->shape, &out->n_elems) &&
                lb_dtype_bytes(x->dtype, out->n_elems, &out->size_bytes);
    if (fits && out->n_elems && !is_contiguous(x, &out->shape) &&
        !is_view(x, &out->shape, &out->lies, &out->size_bytes))
        return refuse_strides(x, &out->shape, name, path, err);
    /* the view lies in the storage, so its bytes do not overflow */
    fits = fits && lb_dtype_bytes(s->dtype, x->view->first, &first) &&
           lb_dtype_bytes(s->dtype, x->view->n_elems, &room) &&
           lb_dtype_bytes(x->dtype, x->off_elems, &skip) && skip <= room &&
           out->size_bytes <= room - skip;
    if (!fits)
        return lb_fail_at(
            err, LB_E_FORMAT, s->off_bytes,
            "%s: tensor '%.*s': shape %s from element %llu does not lie in its storage "
            "'%.*s' of %llu bytes",
            path, LB_FMT(lb_str_sub(name, 0, 200)), lb_shape_text(&out->shape, text),
            (ull)x->off_elems, LB_FMT(lb_str_sub(s->key, 0, 100)), (ull)s->size_bytes);
    out->off_bytes = s->off_bytes + first + skip;
    return LB_OK;
}

lb_status lb_torch_run(lb_torch *t, lb_cur *c, lb_pv **out, lb_err *err) {
    lb_pickle_ops ops = {.ctx = t, .name = find_name, .call = call, .persistent = persistent};
    t->err = err;
    return lb_pickle_run(c, &ops, t->perm, out, err);
}

void lb_torch_deinit(lb_torch *t) {
    lb_free(t->storages);
    lb_map_deinit(&t->by_key);
    lb_buf_deinit(&t->name);
}
