"""The vortex of Taylor and Green: the equations of Navier and Stokes by a spectral method, on mpi4py-fft.

    taylor_green.py POINTS STEPS

The cube of POINTS^3 points is divided among the ranks first in slabs, then in pencils; each transform sends parts
of arrays, as derived datatypes, from all ranks to all. For each division prints the energy, the enstrophy and a digest of
every rank's velocities after STEPS steps, and at last how long the steps took.
"""

import hashlib
import sys
import time

import numpy
from mpi4py import MPI
from mpi4py_fft import PFFT, newDistArray

VISCOSITY = 1 / 100
STEP = 0.01
# Of one step of Runge and Kutta's method of fourth order.
WEIGHTS = (1 / 6, 1 / 3, 1 / 3, 1 / 6)
AHEAD = (0.5, 0.5, 1.0)


class Flow:
    """A velocity field as Fourier coefficients, with what its derivative in time takes."""

    def __init__(self, points, grid):
        self.comm = MPI.COMM_WORLD
        # What FFTW measures would choose another algorithm, which rounds otherwise, each time.
        self.transform = PFFT(
            self.comm, (points,) * 3, dtype=float, grid=grid, planner_effort="FFTW_ESTIMATE"
        )
        self.points = points
        self.scratch = newDistArray(self.transform, False)
        waves = [numpy.fft.fftfreq(points, 1 / points)] * 2 + [numpy.fft.rfftfreq(points, 1 / points)]
        mine = self.transform.local_slice(True)
        waves = [wave[part] for wave, part in zip(waves, mine)]
        self.wave = numpy.stack(numpy.meshgrid(*waves, indexing="ij"))
        self.square = (self.wave**2).sum(axis=0)
        self.kept = (numpy.abs(self.wave) < points / 3).all(axis=0)
        # Modes of a real transform that stand for themselves and their mirror images.
        self.counted = numpy.where((self.wave[2] == 0) | (self.wave[2] == points // 2), 1.0, 2.0)
        self.velocity = self.forward(self.beginning())

    def beginning(self):
        mine = self.transform.local_slice(False)
        places = [2 * numpy.pi * numpy.arange(self.points)[part] / self.points for part in mine]
        x, y, z = numpy.meshgrid(*places, indexing="ij")
        u = numpy.sin(x) * numpy.cos(y) * numpy.cos(z)
        return numpy.stack((u, -numpy.cos(x) * numpy.sin(y) * numpy.cos(z), numpy.zeros_like(u)))

    def forward(self, fields):
        return numpy.stack([self.once(self.transform.forward, False, field) for field in fields])

    def backward(self, fields):
        return numpy.stack([self.once(self.transform.backward, True, field) for field in fields])

    def once(self, transform, spectral, field):
        given = newDistArray(self.transform, spectral)
        given[...] = field
        # The result is in an array of mpi4py-fft's that the next call overwrites.
        return numpy.array(transform(given))

    def derivative(self, velocity):
        vorticity = 1j * numpy.cross(self.wave, velocity, axis=0)
        force = self.forward(numpy.cross(self.backward(velocity), self.backward(vorticity), axis=0))
        force *= self.kept
        # What is left after the pressure has made it free of sources.
        along = (self.wave * force).sum(axis=0) / numpy.where(self.square == 0, 1, self.square)
        return force - self.wave * along - VISCOSITY * self.square * velocity

    def advance(self):
        slopes = [self.derivative(self.velocity)]
        for ahead in AHEAD:
            slopes.append(self.derivative(self.velocity + ahead * STEP * slopes[-1]))
        for weight, slope in zip(WEIGHTS, slopes):
            self.velocity = self.velocity + weight * STEP * slope

    def sum(self, density):
        return self.comm.allreduce(float((density * self.counted).sum()))

    def energy(self):
        return self.sum((numpy.abs(self.velocity) ** 2).sum(axis=0)) / 2

    def enstrophy(self):
        return self.sum(self.square * (numpy.abs(self.velocity) ** 2).sum(axis=0)) / 2

    def digest(self):
        parts = self.comm.gather(hashlib.sha256(self.velocity.tobytes()).digest())
        return None if parts is None else hashlib.sha256(b"".join(parts)).hexdigest()

    def there_and_back(self):
        """The largest difference that a transform and its inverse make."""
        given = self.beginning()
        worst = float(numpy.abs(self.backward(self.forward(given)) - given).max(initial=0))
        return self.comm.allreduce(worst, op=MPI.MAX)


def main(points, steps):
    rank = MPI.COMM_WORLD.Get_rank()
    seconds = 0.0
    energies = []
    for name, grid in (("slabs", (-1,)), ("pencils", None)):
        flow = Flow(points, grid)
        error = flow.there_and_back()
        if error > 1e-14:
            sys.exit(f"{name}: a transform and its inverse differ from nothing by {error}")
        # The flow that it begins with has an energy of an eighth.
        if abs(flow.energy() - 0.125) > 1e-14:
            sys.exit(f"{name}: begins with an energy of {flow.energy()}")
        MPI.COMM_WORLD.Barrier()
        begin = time.monotonic()
        for _ in range(steps):
            flow.advance()
        MPI.COMM_WORLD.Barrier()
        seconds += time.monotonic() - begin
        energies.append(flow.energy())
        enstrophy, digest = flow.enstrophy(), flow.digest()
        if rank == 0:
            print(f"answer: {name} energy {energies[-1]!r}")
            print(f"answer: {name} enstrophy {enstrophy!r}")
            print(f"answer: {name} digest {digest}")
    # Rounded in another order, so not the same to the last bit.
    if abs(energies[0] - energies[1]) > 1e-14:
        sys.exit(f"slabs and pencils differ: {energies}")
    if rank == 0:
        print(f"seconds: {seconds:.3f}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
