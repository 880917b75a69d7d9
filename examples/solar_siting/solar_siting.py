"""Where should the panels point? A year of hours for every tilt, azimuth, module and inverter, on real weather.

The weather is the typical meteorological year (TMY3) of two stations that the pvlib package ships, Greensboro in
North Carolina and Sand Point in Alaska; so are the module database of Sandia and the inverter database of the
California Energy Commission.

Run it:            scalable-hpc run examples/solar_siting/solar_siting.py
On a cluster:      scalable-hpc run examples/solar_siting/solar_siting.py --target slurm
The same without:  python examples/solar_siting/solar_siting.py
"""

from __future__ import annotations

import argparse
import csv
import itertools
from functools import cache
from pathlib import Path
from typing import Any

from scalable_hpc import ScalableSession, cacheable

HERE = Path(__file__).resolve().parent
STATIONS = {"Greensboro": "723170TYA.CSV", "Sand Point": "703165TY.csv"}
TILTS = range(0, 70, 10)
AZIMUTHS = range(90, 271, 20)
MODULES = ("Canadian_Solar_CS5P_220M___2009_", "SunPower_SPR_220__PVL____2006_")
INVERTERS = ("ABB__MICRO_0_25_I_OUTD_US_208__208V_", "AU_Optronics__PM060MA0_240__240V_")


@cache
def weather(station: str) -> tuple[Any, dict[str, Any]]:
    """A station's hours and where it stands, read once in each slot."""
    import pvlib

    path = Path(pvlib.__file__).parent / "data" / STATIONS[station]
    return pvlib.iotools.read_tmy3(path, coerce_year=1990, map_variables=True)


@cacheable(return_type=dict, station=str, tilt=int, azimuth=int, module=str, inverter=str, depends_on=("pvlib",))
def annual_energy(station: str, tilt: int, azimuth: int, module: str, inverter: str) -> dict:
    """Simulate one panel for a year; energy in kWh, the share of hours in which the inverter clips."""
    import pvlib

    hours, place = weather(station)
    site = pvlib.location.Location(place["latitude"], place["longitude"], altitude=place["altitude"])
    sandia = pvlib.pvsystem.retrieve_sam("SandiaMod")[module]
    cec = pvlib.pvsystem.retrieve_sam("cecinverter")[inverter]
    mount = pvlib.pvsystem.FixedMount(surface_tilt=tilt, surface_azimuth=azimuth)
    thermal = pvlib.temperature.TEMPERATURE_MODEL_PARAMETERS["sapm"]["open_rack_glass_glass"]
    array = pvlib.pvsystem.Array(mount, module_parameters=sandia, temperature_model_parameters=thermal)
    system = pvlib.pvsystem.PVSystem(arrays=[array], inverter_parameters=cec)
    model = pvlib.modelchain.ModelChain(system, site)
    model.run_model(hours)
    power = model.results.ac.clip(lower=0.0)
    return {
        "station": station,
        "tilt": tilt,
        "azimuth": azimuth,
        "module": module,
        "inverter": inverter,
        "energy_kwh": round(float(power.sum()) / 1000.0, 3),
        "clipped": round(float((power >= 0.999 * cec["Paco"]).mean()), 4),
    }


def write_table(rows: list[dict[str, Any]], path: Path) -> None:
    """One line a scenario, the best first."""
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, fieldnames=list(rows[0]))
        table.writeheader()
        table.writerows(sorted(rows, key=lambda row: -row["energy_kwh"]))


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Energy over tilt and azimuth at each station, for its best pair of module and inverter."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(STATIONS), figsize=(11, 4.2), layout="constrained")
    for axes, station in zip(panels, STATIONS, strict=True):
        here = [row for row in rows if row["station"] == station]
        best = max(here, key=lambda row: row["energy_kwh"])
        energy = {
            (row["tilt"], row["azimuth"]): row["energy_kwh"]
            for row in here
            if (row["module"], row["inverter"]) == (best["module"], best["inverter"])
        }
        grid = [[energy.get((tilt, azimuth), float("nan")) for azimuth in AZIMUTHS] for tilt in TILTS]
        mesh = axes.contourf(list(AZIMUTHS), list(TILTS), grid, levels=14, cmap="viridis")
        axes.plot(best["azimuth"], best["tilt"], "r*", markersize=14, label=f"best: {best['energy_kwh']:.0f} kWh")
        axes.set(title=station, xlabel="azimuth (degrees from north)", ylabel="tilt (degrees)")
        axes.legend(loc="upper right")
        figure.colorbar(mesh, label="energy of one panel in a year (kWh)")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Run the ensemble and write the table and the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("solar_siting_results"))
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every N-th scenario")
    arguments = parser.parse_args()
    output = arguments.output
    scenarios = list(itertools.product(STATIONS, TILTS, AZIMUTHS, MODULES, INVERTERS))[:: arguments.every]

    with ScalableSession.from_yaml(HERE / "scalable.yaml") as client:
        futures = client.map(annual_energy, *zip(*scenarios, strict=True), task="annual_energy", retries=3)
        batch = client.collect(futures)

    print(batch.summary())
    batch.raise_if_failed()
    rows = batch.results()
    output.mkdir(parents=True, exist_ok=True)
    write_table(rows, output / "energy.csv")
    draw(rows, output / "energy.png")
    for station in STATIONS:
        best = max((row for row in rows if row["station"] == station), key=lambda row: row["energy_kwh"])
        print(f"{station}: {best['energy_kwh']:.0f} kWh a year at tilt {best['tilt']}, azimuth {best['azimuth']}")
    print(f"table: {output / 'energy.csv'}\npicture: {output / 'energy.png'}")


if __name__ == "__main__":
    main()
