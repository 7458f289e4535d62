/* SPDX-License-Identifier: Apache-2.0 */
/* cuda_driver.h: the functions of NVIDIA's driver library that are called, opened at run time:
 * nothing of CUDA is needed to build. Names, numbers and structs are those of cuda.h, which the
 * driver keeps for ever under these names (the _v2 are what cuda.h maps the plain names to since
 * CUDA 3.2 and 11.0). */
#ifndef LB_DEVICE_CUDA_DRIVER_H
#define LB_DEVICE_CUDA_DRIVER_H

#include "base/base.h"

typedef int cu_result;
typedef int cu_device;
typedef u64 cu_ptr;
typedef struct cu_context_st *cu_context;
typedef struct cu_module_st *cu_module;
typedef struct cu_function_st *cu_function;
typedef struct cu_stream_st *cu_stream;
typedef struct cu_event_st *cu_event;
typedef struct cu_graph_st *cu_graph;
typedef struct cu_graph_node_st *cu_graph_node;
typedef struct cu_graph_exec_st *cu_graph_exec;

/* CUDA_KERNEL_NODE_PARAMS_v1 */
typedef struct cu_kernel_node {
    cu_function f;
    unsigned groups[3], threads[3], shared_bytes;
    void **params, **extra;
} cu_kernel_node;

/* CUgraphEdgeData: how a node waits for another. */
typedef struct cu_graph_edge {
    unsigned char from_port, to_port, type, reserved[5];
} cu_graph_edge;

enum {
    CU_OK = 0,
    CU_OUT_OF_MEMORY = 2,
    CU_DEINITIALIZED = 4,
    CU_DEVICE_UNAVAILABLE = 46,
    CU_NO_DEVICE = 100,
    CU_NO_BINARY_FOR_GPU = 209,
    CU_ECC_UNCORRECTABLE = 214,
    CU_UNSUPPORTED_PTX_VERSION = 222,
    CU_ILLEGAL_ADDRESS = 700,
    CU_PEER_ALREADY = 704,
    CU_LAUNCH_TIMEOUT = 702,
    CU_CONTEXT_IS_DESTROYED = 709,
    CU_HARDWARE_STACK_ERROR = 714, /* to CU_LAUNCH_FAILED: faults of a kernel */
    CU_LAUNCH_FAILED = 719,
    CU_UNKNOWN = 999,

    CU_ATTR_SHARED_BYTES = 8,
    CU_ATTR_WARP = 10,
    CU_ATTR_UNITS = 16,
    CU_ATTR_INTEGRATED = 18,
    CU_ATTR_THREADS = 1,
    CU_ATTR_MAJOR = 75,
    CU_ATTR_MINOR = 76,
    CU_ATTR_READ_ONLY_REGISTER = 113,
    CU_ATTR_SHARED_BYTES_MOST = 97,

    CU_HOST_PORTABLE = 1,
    CU_HOST_DEVICEMAP = 2,
    CU_REGISTER_PORTABLE = 1,
    CU_REGISTER_DEVICEMAP = 2,
    CU_REGISTER_READ_ONLY = 8,
    CU_STREAM_NON_BLOCKING = 1,

    CU_EDGE_PROGRAMMATIC = 1,      /* a type: the second kernel may begin early */
    CU_EDGE_PORT_PROGRAMMATIC = 1, /* when the first one says so */
    CU_FUNC_SHARED_BYTES_MAX = 8,

    CU_JIT_ERROR_LOG = 5,
    CU_JIT_ERROR_LOG_BYTES = 6
};

#define LB_CUDA_FUNCTIONS(F)                                                             \
    F(cuInit, (unsigned flags))                                                          \
    F(cuDriverGetVersion, (int *version))                                                \
    F(cuDeviceGetCount, (int *n))                                                        \
    F(cuDeviceGet, (cu_device * out, int i))                                             \
    F(cuDeviceGetName, (char *out, int n, cu_device d))                                  \
    F(cuDeviceGetAttribute, (int *out, int attribute, cu_device d))                      \
    F(cuDeviceTotalMem_v2, (size_t * out, cu_device d))                                  \
    F(cuDevicePrimaryCtxRetain, (cu_context * out, cu_device d))                         \
    F(cuDevicePrimaryCtxRelease_v2, (cu_device d))                                       \
    F(cuCtxSetCurrent, (cu_context c))                                                   \
    F(cuDeviceCanAccessPeer, (int *out, cu_device d, cu_device peer))                    \
    F(cuCtxEnablePeerAccess, (cu_context peer, unsigned flags))                          \
    F(cuMemGetInfo_v2, (size_t * free_bytes, size_t * all_bytes))                        \
    F(cuModuleLoadDataEx,                                                                \
      (cu_module * out, const void *image, unsigned n, int *options, void **values))     \
    F(cuModuleUnload, (cu_module m))                                                     \
    F(cuModuleGetFunction, (cu_function * out, cu_module m, const char *name))           \
    F(cuMemAlloc_v2, (cu_ptr * out, size_t n))                                           \
    F(cuMemFree_v2, (cu_ptr p))                                                          \
    F(cuMemHostAlloc, (void **out, size_t n, unsigned flags))                            \
    F(cuMemFreeHost, (void *p))                                                          \
    F(cuMemHostRegister_v2, (void *p, size_t n, unsigned flags))                         \
    F(cuMemHostUnregister, (void *p))                                                    \
    F(cuMemHostGetDevicePointer_v2, (cu_ptr * out, void *p, unsigned flags))             \
    F(cuMemcpyAsync, (cu_ptr to, cu_ptr from, size_t n, cu_stream s))                    \
    F(cuMemcpyPeerAsync,                                                                 \
      (cu_ptr to, cu_context t, cu_ptr from, cu_context f, size_t n, cu_stream s))       \
    F(cuStreamCreate, (cu_stream * out, unsigned flags))                                 \
    F(cuStreamDestroy_v2, (cu_stream s))                                                 \
    F(cuStreamSynchronize, (cu_stream s))                                                \
    F(cuStreamWaitEvent, (cu_stream s, cu_event e, unsigned flags))                      \
    F(cuEventCreate, (cu_event * out, unsigned flags))                                   \
    F(cuEventDestroy_v2, (cu_event e))                                                   \
    F(cuEventRecord, (cu_event e, cu_stream s))                                          \
    F(cuEventSynchronize, (cu_event e))                                                  \
    F(cuEventElapsedTime, (float *ms, cu_event from, cu_event to))                       \
    F(cuLaunchKernel,                                                                    \
      (cu_function f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,   \
       unsigned bz, unsigned shared, cu_stream s, void **params, void **extra))          \
    F(cuGraphCreate, (cu_graph * out, unsigned flags))                                   \
    F(cuGraphAddKernelNode, (cu_graph_node * out, cu_graph g, const cu_graph_node *deps, \
                             size_t n_deps, const cu_kernel_node *k))                    \
    F(cuGraphInstantiate_v2,                                                             \
      (cu_graph_exec * out, cu_graph g, cu_graph_node * error, char *log, size_t n))     \
    F(cuGraphDestroy, (cu_graph g))                                                      \
    F(cuGraphLaunch, (cu_graph_exec g, cu_stream s))                                     \
    F(cuGraphExecDestroy, (cu_graph_exec g))                                             \
    F(cuFuncSetAttribute, (cu_function f, int attribute, int value))                     \
    F(cuGetErrorString, (cu_result r, const char **out))

/* What later drivers have; NULL in others. CUDA 12.3: */
#define LB_CUDA_LATER(F)                                                                          \
    F(cuGraphAddDependencies_v2, (cu_graph g, const cu_graph_node *from, const cu_graph_node *to, \
                                  const cu_graph_edge *e, size_t n))

typedef struct lb_cuda_driver {
    void *library; /* NULL: not open */
    int version;   /* 12080 of CUDA 12.8 */
#define F(name, args) cu_result(*name) args;
    LB_CUDA_FUNCTIONS(F)
    LB_CUDA_LATER(F)
#undef F
} lb_cuda_driver;

#define LB_CUDA_VERSION_MIN 11000 /* of PTX 7.0, in which the kernels are */
#define LB_CUDA_CAPABILITY_MIN 75

/* Opens and starts the driver. LB_E_NOT_FOUND: there is none, or no GPU; LB_E_UNSUPPORTED: too old
 * a driver. On an error nothing is left open. */
lb_status lb_cuda_driver_open(lb_cuda_driver *d, lb_err *err);
void lb_cuda_driver_close(lb_cuda_driver *d);
/* "out of memory", as the driver calls it. */
const char *lb_cuda_text(const lb_cuda_driver *d, cu_result r);

/* The kernels as PTX (cuda_ptx.c), each ends with NUL: those of every device, mm_* for compute
 * capability 8.0 and later, gemm* for 9.0 and no other. */
extern const char lb_cuda_ptx[], lb_cuda_ptx_mm[], lb_cuda_ptx_hopper[];
#define LB_CUDA_VERSION_HOPPER 12000 /* of PTX 8.0 */
#define LB_CUDA_CAPABILITY_OVERLAP 90

#endif
