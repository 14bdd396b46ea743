// Norms and gates for NVIDIA's GPUs, each in one pass over memory. The program that includes it
// defines:
//   CENTRED     1 for a layer norm, 0 for an RMS norm
//   ACTIVATION  0 SiLU, 1 GELU, 2 GELU by tanh, 3 ReLU

// The sum over a block of at most 32 warps, for all of its threads.
__device__ __forceinline__ float sum_of_block(float x) {
    __shared__ float sums[LANES];
    unsigned lane = threadIdx.x % LANES, warp = threadIdx.x / LANES;
    unsigned n_warps = blockDim.x / LANES;
    for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(ALL, x, step);
    // Whoever still reads the sums of before.
    __syncthreads();
    if (lane == 0) sums[warp] = x;
    __syncthreads();
    x = lane < n_warps ? sums[lane] : 0.0f;
    for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(ALL, x, step);
    return x;
}

// A block of threads takes a row.
extern "C" __global__ void norm_rows(
    const number *x, // [rows, width]
    const float *weight, // [width]
    const float *bias, // [width], for a layer norm
    number *out, // [rows, width]
    unsigned width,
    float eps
) {
    x += (size_t)blockIdx.x * width;
    out += (size_t)blockIdx.x * width;
    float mean = 0.0f, squares = 0.0f;
    if (CENTRED) {
        float sum = 0.0f;
        for (unsigned i = threadIdx.x; i < width; i += blockDim.x) sum += widened(x[i]);
        mean = sum_of_block(sum) / width;
    }
    for (unsigned i = threadIdx.x; i < width; i += blockDim.x) {
        float centred = widened(x[i]) - mean;
        squares += centred * centred;
    }
    float scale = 1.0f / sqrtf(sum_of_block(squares) / width + eps);
    for (unsigned i = threadIdx.x; i < width; i += blockDim.x) {
        float normed = (widened(x[i]) - mean) * scale * weight[i];
        out[i] = rounded(CENTRED ? normed + bias[i] : normed);
    }
}

__device__ __forceinline__ float activated(float x) {
#if ACTIVATION == 0
    return x / (1.0f + expf(-x));
#elif ACTIVATION == 1
    return 0.5f * x * (1.0f + erff(x * 0.70710678f));
#elif ACTIVATION == 2
    return 0.5f * x * (1.0f + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
#else
    return x > 0.0f ? x : 0.0f;
#endif
}

extern "C" __global__ void gate_rows(
    const number *gate, // [n]
    const number *up, // [n]
    number *out, // [n]
    size_t n, // the first of which are read N_READ at once
    size_t n_reads
) {
    size_t begin = blockIdx.x * (size_t)blockDim.x + threadIdx.x;
    size_t step = gridDim.x * (size_t)blockDim.x;
    for (size_t i = begin; i < n_reads; i += step) {
        Read a = ((const Read *)gate)[i], b = ((const Read *)up)[i];
#pragma unroll
        for (int j = 0; j < N_READ; j++)
            a.x[j] = rounded(activated(widened(a.x[j])) * widened(b.x[j]));
        ((Read *)out)[i] = a;
    }
    for (size_t i = n_reads * N_READ + begin; i < n; i += step)
        out[i] = rounded(activated(widened(gate[i])) * widened(up[i]));
}
