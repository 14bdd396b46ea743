// The type of numbers in memory, which the program that includes this names: TYPE is 0 for f32, 1 for
// f16 and 2 for bf16. Everything is computed in f32.

#define LANES 32u
#define ALL 0xffffffffu

#if TYPE == 0
typedef float number;
__device__ __forceinline__ float widened(number x) { return x; }
__device__ __forceinline__ number rounded(float x) { return x; }
#elif TYPE == 1
typedef unsigned short number;
__device__ __forceinline__ float widened(number x) {
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x));
    return y;
}
__device__ __forceinline__ number rounded(float x) {
    number y;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y) : "f"(x));
    return y;
}
#else
typedef unsigned short number;
__device__ __forceinline__ float widened(number x) { return __uint_as_float((unsigned)x << 16); }
__device__ __forceinline__ number rounded(float x) {
    unsigned bits = __float_as_uint(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fc0;
    return (number)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}
#endif

// As many numbers as are read at once.
#define N_READ (16 / (int)sizeof(number))
struct __align__(16) Read { number x[N_READ]; };
