"""A table says the class of each image: its columns are found by their names, and what is in doubt is refused."""

import csv
import hashlib
from pathlib import Path

import pytest

from tailor.common.errors import ConfigError
from tests.tailor.prepare.pictures import encoded, fill, prepare

IN_FOLDERS = ("a/0.jpg", "a/1.jpg", "b/2.jpg", "b/3.jpg")
NAMES = tuple(f"{number}.jpg" for number in range(4))
ALIKE = "4 have a listed name but for folder, suffix, capitals, leading zeros, or an upload's number: write"
SIX = tuple(f"{number}.jpg" for number in range(6))


def listed(folder: Path) -> list[dict[str, str]]:
    with (folder / "images.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def read(tmp_path: Path, table: str, *options: str, names: tuple[str, ...] = NAMES) -> tuple[str, dict[str, str]]:
    """What the command prints of a table of these images, and the class of each image."""
    fill(tmp_path / "images", names)
    (tmp_path / "labels.csv").write_text(table)
    said = prepare("made", tmp_path / "images", tmp_path, "--labels", tmp_path / "labels.csv", *options)
    lines = sorted(listed(tmp_path / "made"), key=lambda line: line["name"])
    return said, {line["name"]: line["class"] for line in lines}


def refusal(tmp_path: Path, table: str, *options: str, names: tuple[str, ...] = NAMES) -> str:
    """The refusal of a table of these images, of which nothing is made."""
    with pytest.raises(ConfigError) as refused:
        read(tmp_path, table, *options, names=names)
    assert not (tmp_path / "made").exists()
    return str(refused.value)


def test_each_class_may_have_a_column_of_zeros_and_ones(tmp_path: Path) -> None:
    said, found = read(
        tmp_path,
        "image_id,healthy,rust,scab\n0,1,0,0\n1,0,1,0\n2,0,0,1\n3,1,0,0\n4,0,1,0\n5,0,0,1\n",
        names=SIX,
    )
    assert list(found.values()) == ["healthy", "rust", "scab", "healthy", "rust", "scab"]
    assert "the image is column 'image_id', its class the one of healthy, rust, scab that is 1" in said


def test_columns_between_image_and_class_are_not_the_class(tmp_path: Path) -> None:
    rows = (
        "0.jpg,480,640,cat,1,2,3,4\n1.jpg,480,640,dog,1,2,3,4\n2.jpg,640,480,cat,1,2,3,4\n3.jpg,640,480,dog,1,2,3,4\n"
    )
    said, found = read(tmp_path, f"filename,width,height,class,xmin,ymin,xmax,ymax\n{rows}")
    assert list(found.values()) == ["cat", "dog", "cat", "dog"]
    assert "its class 'class', not read: width, height, xmin, ymin, xmax, ymax" in said


def test_a_sweep_is_not_over_patients(tmp_path: Path) -> None:
    table = "image_id,patient,age,label\n0,p0,30,cat\n1,p0,30,dog\n2,p1,40,cat\n3,p1,40,dog\n"
    assert list(read(tmp_path, table)[1].values()) == ["cat", "dog", "cat", "dog"]


@pytest.mark.parametrize("missing", ["9.jpg", "9"])
def test_a_first_line_that_looks_like_the_others_is_not_lost(tmp_path: Path, missing: str) -> None:
    suffix = missing[1:]
    table = f"{missing},cat\n" + "".join(f"{number}{suffix},{'cat' if number % 2 else 'dog'}\n" for number in range(4))
    assert f"1 of 5 listed images are not in {tmp_path / 'images'}: {missing}" in refusal(tmp_path, table)


@pytest.mark.parametrize(
    ("table", "doubt"),
    [
        ("unknown,rare\n0,cat\n1,dog\n", "(unknown, rare) names the columns is not clear: none of them is known"),
        ("image,photo\n0,photo\n1,drawing\n", "'image' may be the name of a column, but 'photo' is also in line 2"),
        ("0.jpg,image\n1.jpg,drawing\n", "'image' may be the name of a column, but '0.jpg' is the name of an image"),
    ],
)
def test_a_first_line_that_may_be_either_is_refused(tmp_path: Path, table: str, doubt: str) -> None:
    said = refusal(tmp_path, table)
    assert doubt in said
    assert "--image-column" in said and "write the line image,class above it" in said


def test_the_user_may_say_what_the_first_line_is(tmp_path: Path) -> None:
    rows = "0,cat\n1,dog\n2,cat\n3,dog\n"
    asked = ("--image-column", "nr", "--class-column", "kind")
    assert list(read(tmp_path, f"nr,kind\n{rows}", *asked)[1].values()) == ["cat", "dog", "cat", "dog"]
    assert "nr, kind" in refusal(tmp_path / "not", f"nr,kind\n{rows}")


def test_names_of_columns_are_no_image_of_that_name(tmp_path: Path) -> None:
    table, names = "image,class\n0,cat\n1,dog\n2,cat\n3,dog\n", (*NAMES, "image.jpg")
    assert "'image' is the name of an image" in refusal(tmp_path / "not", table, names=names)
    _said, found = read(tmp_path, table, "--class-column", "class", names=names)
    assert list(found.values()) == ["cat", "dog", "cat", "dog"]


def test_a_table_without_names_says_so(tmp_path: Path) -> None:
    said, found = read(tmp_path, "0,cat\n1,dog\n2,cat\n3,dog\n")
    assert "its first line names no columns: the first one is the image, the second one its class" in said
    assert len(found) == 4


@pytest.mark.parametrize(
    ("options", "refused"),
    [
        (("--class-column", "kinds"), "--class-column 'kinds': .* has no such column; did you mean 'kind'"),
        (("--image-column", "kind", "--class-column", "Kind"), "both 'kind'; name two columns"),
    ],
)
def test_columns_that_are_not_there_are_refused(tmp_path: Path, options: tuple[str, ...], refused: str) -> None:
    fill(tmp_path / "images", NAMES)
    (tmp_path / "labels.csv").write_text("nr,kind\n0,cat\n1,dog\n")
    with pytest.raises(ConfigError, match=refused):
        prepare("made", tmp_path / "images", tmp_path, "--labels", tmp_path / "labels.csv", *options)


@pytest.mark.parametrize("number", ["id", "image_id"])
def test_a_number_of_a_line_is_not_taken_for_an_image_beside_names_of_images(tmp_path: Path, number: str) -> None:
    table = f"{number},jpg,class\n1,0.jpg,cat\n2,C:\\me\\1.jpg,cat\n3,2.jpg,dog\n0,3.jpg,dog\n"
    advised = f"--image-column {number} or --image-column jpg"
    assert f"several may be the image's; add {advised}" in refusal(tmp_path, table)
    _, found = read(tmp_path, table.replace("C:\\me\\", ""), "--image-column", "jpg")
    assert list(found.values()) == ["cat", "cat", "dog", "dog"]


def test_columns_of_one_name_are_to_be_renamed(tmp_path: Path) -> None:
    table = "image,label,label\n0.jpg,cat,1\n1.jpg,dog,2\n"
    assert "several may be the class's; give each column a name of its own" in refusal(tmp_path, table)


def test_columns_without_a_table_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is none; give it in --labels"):
        prepare("made", fill(tmp_path / "images", NAMES), tmp_path, "--class-column", "kind")


@pytest.mark.parametrize(
    ("table", "classes"),
    [
        ("image,class\n0,scab|rust\n1,rust\n", "; if 'scab|rust' is one class, call it scab_rust"),
        ("image,class\n0,scab rust\n1,rust\n2,scab\n", "; if 'scab rust' is one class, call it scab_rust"),
        ("image,class\n0,rust\n1,rust\n0.jpg,scab\n", "0.jpg (rust, scab)"),
        ("image,rust,scab,mould\n0,1,0,0\n1,0,1,1\n", "line 3: 2 of its classes are 1 (scab, mould)"),
        ("image,rust,scab,mould\n0,1,0,0\n1,0,0,0\n", "line 3: none of its classes is 1"),
    ],
)
def test_an_image_with_several_classes_is_refused(tmp_path: Path, table: str, classes: str) -> None:
    said = refusal(tmp_path, table)
    assert classes in said and "give each image one class, or remove its lines" in said


@pytest.mark.parametrize(
    ("header", "rows", "classes"),
    [
        pytest.param("id,breed", "0,pug|1,pug|2,boxer|3,boxer", "pug pug boxer boxer", id="dog-breed-identification"),
        pytest.param("image_id,label", "0.jpg,4|1.jpg,4|2.jpg,1|3.jpg,1", "4 4 1 1", id="cassava"),
        pytest.param("id_code,diagnosis", "0,2|1,2|2,0|3,0", "2 2 0 0", id="aptos2019"),
        pytest.param("id,has_cactus", "0.jpg,1|1.jpg,1|2.jpg,0|3.jpg,0", "1 1 0 0", id="aerial-cactus"),
        pytest.param("Image,Id", "0.jpg,w_1|1.jpg,w_1|2.jpg,w_2|3.jpg,w_2", "w_1 w_1 w_2 w_2", id="humpback-whale"),
        pytest.param(
            "image_id,label,variety,age",
            "0.jpg,blast,A,47|1.jpg,tungro,A,47|2.jpg,blast,B,68|3.jpg,tungro,B,68",
            "blast tungro blast tungro",
            id="paddy-disease",
        ),
        pytest.param(
            "lesion_id,image_id,dx,dx_type,age,sex,localization",
            "L7,0,nv,histo,45.0,male,back|L7,1,nv,histo,45.0,male,back|L8,2,mel,histo,,female,face|L9,3,mel,,,,ear",
            "nv nv mel mel",
            id="ham10000",
        ),
        pytest.param(
            "Width,Height,Roi.X1,Roi.Y1,Roi.X2,Roi.Y2,ClassId,Path",
            "27,26,5,5,22,20,20,0.jpg|28,27,5,6,23,22,20,1.jpg|29,26,6,5,24,21,3,2.jpg|28,27,5,6,23,22,3,3.jpg",
            "20 20 3 3",
            id="gtsrb",
        ),
        pytest.param(
            "category_id,date_captured,file_name,frame_num,id,location,seq_id,width,height",
            "19,2012,0.jpg,1,0,115,s,9,9|19,2012,1.jpg,2,1,115,s,9,9|0,2014,2.jpg,1,2,96,t,9,9|0,2014,3.jpg,2,3,96,t,9,9",
            "19 19 0 0",
            id="iwildcam2019",
        ),
        pytest.param(
            "image_id,healthy,multiple_diseases,rust,scab",
            "0,0,0,0,1|1,0,0,0,1|2,0,1,0,0|3,0,1,0,0",
            "scab scab multiple_diseases multiple_diseases",
            id="plant-pathology-2020",
        ),
        pytest.param(
            "image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK",
            "0,0.0,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0|1,0.0,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0"
            "|2,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0|3,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0",
            "NV NV MEL MEL",
            id="isic2019",
        ),
    ],
)
def test_the_class_column_of_a_public_table(tmp_path: Path, header: str, rows: str, classes: str) -> None:
    """The columns as each data set's description has them; the rows are made up."""
    _said, found = read(tmp_path, "\n".join([header, *rows.split("|")]))
    assert found == dict(zip(NAMES, classes.split(), strict=True))


@pytest.mark.parametrize(
    ("header", "rows", "refused"),
    [
        pytest.param(
            "image_name,patient_id,sex,age_approx,anatom_site_general_challenge,diagnosis,benign_malignant,target",
            ["0,P1,male,45.0,head/neck,unknown,benign,0", "1,P2,female,45.0,torso,melanoma,malignant,1"],
            ["{header}: several may be the class's; add --class-column diagnosis or --class-column target"],
            id="siim-isic-2020",
        ),
        pytest.param(
            "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
            "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],",
            ["0.jpg,Mass|Edema,1,1,58,M,PA,2894,2729,0.1,0.1,", "1.jpg,No Finding,0,2,81,M,PA,2500,2048,0.1,0.1,"],
            ["1 image with several classes: 0.jpg (Mass, Edema)"],
            id="chest-x-ray14",
        ),
        pytest.param(
            "image,labels",
            ["0.jpg,rust", "1.jpg,scab rust", "2.jpg,scab"],
            ["1 image with several classes: 1.jpg (scab, rust)"],
            id="plant-pathology-2021",
        ),
        pytest.param(
            "ImageID,Source,LabelName,Confidence",
            ["0,verification,/m/cat,1", "0,crowdsource,/m/dog,1", "1,verification,/m/dog,1"],
            ["1 image with several classes: 0.jpg (/m/cat, /m/dog)"],
            id="open-images",
        ),
        pytest.param(
            "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max",
            ["0,No finding,14,R11,,,,", "1,Cardiomegaly,3,R10,691,1375,1653,1831"],
            ["{header}: several may be the class's; add --class-column class_name or --class-column class_id"],
            id="vinbigdata-chest-x-ray",
        ),
        pytest.param(
            "patientId,x,y,width,height,Target",
            ["0,,,,,0", "1,264,152,213,379,1", "1,562,152,256,453,1"],
            ["({header})", "add --image-column NAME and --class-column NAME"],
            id="rsna-pneumonia",
        ),
        pytest.param(
            "image,chain,hotel_id,timestamp",
            ["0.jpg,5,22408,2018-04-16 17:01:49", "1.jpg,70,2324,2016-07-08 22:26:21"],
            ["{header}: none of them is known as the class's", "add --class-column NAME"],
            id="hotel-id-2021",
        ),
        pytest.param(
            "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Cardiomegaly,Edema,Fracture,Support Devices",
            ["0.jpg,Female,68,Frontal,AP,1.0,,,,1.0", "1.jpg,Female,87,Frontal,AP,,-1.0,-1.0,1.0,"],
            ["{header}: none of them is known as the class's", "write 1 for its images and 0 for all others"],
            id="chexpert",
        ),
        pytest.param("1 1", ["2 1", "3 2"], ["not a table", "separated by commas, semicolons or tabs"], id="cub200"),
    ],
)
def test_a_public_table_that_is_refused(tmp_path: Path, header: str, rows: list[str], refused: list[str]) -> None:
    said = refusal(tmp_path, "\n".join([header, *rows]))
    for words in refused:
        assert words.format(header=header.rstrip(",").replace(",", ", ")) in said


def test_a_refused_table_is_read_with_the_options_of_the_refusal(tmp_path: Path) -> None:
    table = (
        "patientId,x,y,width,height,Target\n0,,,,,0\n1,264,152,213,379,1\n1,562,152,256,453,1\n2,,,,,0\n3,5,5,9,9,1\n"
    )
    _said, found = read(tmp_path, table, "--image-column", "patientId", "--class-column", "Target")
    assert list(found.values()) == ["0", "1", "0", "1"]


def test_lines_that_repeat_an_image_and_its_class_are_one(tmp_path: Path) -> None:
    said, found = read(tmp_path, "image,class\n0,golden cat\n0,golden cat\n1,dog\n2,golden cat\n3,dog\n")
    assert found == {"0.jpg": "golden cat", "1.jpg": "dog", "2.jpg": "golden cat", "3.jpg": "dog"}
    assert "lines that repeat an image and its class: 1" in said


@pytest.mark.parametrize(
    ("table", "encoding"),
    [
        ("image,class\n{}", "utf-8"),
        ("id,breed\n{}", "utf-8-sig"),  # as Excel writes it
        ("{}", "utf-8"),  # without names of the columns
    ],
)
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("suffix", [".jpg", ""])
def test_a_flat_folder_with_a_table_of_labels(
    tmp_path: Path, table: str, encoding: str, separator: str, suffix: str
) -> None:
    origin = fill(tmp_path / "images", [f"{number}.jpg" for number in range(12)] + ["unlisted.jpg"])
    classes = ("cat", "caf\u00e9")
    lines = [f"{number}{suffix},{classes[number % 2]}" for number in range(12)]
    text = table.format("\n".join(lines)).replace(",", separator)
    (tmp_path / "labels.csv").write_text(f"{text}\n", encoding=encoding)
    said = prepare("animals", origin, tmp_path, "--labels", tmp_path / "labels.csv")
    assert "1 file(s) are left out" in said and "unlisted.jpg" in said
    found = {line["name"]: line["class"] for line in listed(tmp_path / "animals")}
    assert found == {f"{number}.jpg": classes[number % 2] for number in range(12)}


def test_a_table_of_labels_may_have_splits(tmp_path: Path) -> None:
    origin = fill(tmp_path / "images", [f"{number}.jpg" for number in range(12)])
    lines = [f"{number}.jpg,{number % 2},{('Train', 'val', 'test')[number // 4]}" for number in range(12)]
    (tmp_path / "labels.csv").write_text("\n".join(["name,label,Split", *lines]))
    prepare("animals", origin, tmp_path, "--labels", tmp_path / "labels.csv")
    found = [(line["split"], line["class"]) for line in listed(tmp_path / "animals")]
    assert sorted(found) == sorted(2 * [(split, label) for split in ("train", "val", "test") for label in "01"])


@pytest.mark.parametrize("only", ["test", "train", "val"])
def test_a_class_that_no_trial_learns_or_none_tests_is_refused(only: str, tmp_path: Path) -> None:
    origin = fill(tmp_path / "images", [f"{number}.jpg" for number in range(13)])
    lines = [f"{number}.jpg,{number % 2},{('train', 'test')[number // 6]}" for number in range(10)]
    lines += [f"{number}.jpg,fox,{only}" for number in (10, 11, 12)]
    (tmp_path / "labels.csv").write_text("\n".join(["name,label,split", *lines]))
    with pytest.raises(ConfigError, match=r"differ in their classes: 'fox' \((no|only) test"):
        prepare("animals", origin, tmp_path, "--labels", tmp_path / "labels.csv")
    options = ("--labels", tmp_path / "labels.csv", "--test-split", "trial")
    assert "of 3 classes" in prepare("pool", origin, tmp_path, *options)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is not a table of images"),
        (b"0.jpg\n1.jpg\n", "is not a table of images"),
        (b'[{"image": "0.jpg", "class": "cat"}, {"image": "1.jpg", "class": "dog"}]', "is not a table of images.*CSV"),
        (b"image,class\n0.jpg,cat\n1.jpg\n", "line 3: '1.jpg' where a value is expected for each of image, class"),
        (b"image,class\n0.jpg,cat\n1.jpg,\n", "line 3"),
        (b"image,class\n0.jpg,cat\n7.jpg,dog\n", "1 of 2 listed images are not in.*7.jpg"),
        (b"image,class\n0.jpg,cat\n0.jpg,dog\n", "1 image with several classes: 0.jpg .cat, dog."),
        (b"image,class,split\n0.jpg,cat,train\n0.jpg,cat,test\n", "0.jpg are in the lists more than once; correct"),
        (b"image,class\n", "nothing below the names of its columns"),
        (b"0.jpg,cat,ann\n1.jpg,dog,bob\n", "names no columns, and there are 3.*image,class,split"),
        (b"image,class,split\n0.jpg,cat,train\n1.jpg,dog,\n", "line 3: no such split: ''.*; write one in each line"),
        (b"image,class,split\n0.jpg,cat,train\n1.jpg,dog,tset\n", "line 3: no such split: 'tset'; did you mean 'test'"),
        (b"image,class\n0.jpg,caf\xe9\n", "not text in UTF-8: line 2 has the byte 0xe9"),
        ("image,class\n0.jpg,cat\n".encode("utf-16"), "UTF-16"),
        (b"Of 2024\nimage;class\n0.jpg;cat\n1.jpg;dog\n", "line 2 names the columns; remove what is above it"),
        (f"image,class\n0,cat\n1,dog\n{'n' * 300},dog\n".encode(), "1 of 3 listed images are not in .*: nnn"),
    ],
)
def test_a_table_of_labels_that_does_not_fit_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    origin = fill(tmp_path / "images", ["0.jpg", "1.jpg"])
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        prepare("animals", origin, tmp_path / "root", "--labels", tmp_path / "labels.csv")
    assert not (tmp_path / "root" / "animals").exists()


@pytest.mark.parametrize("above", ["sep=;\n", "\n"])
def test_lines_that_spreadsheets_add_are_no_images(tmp_path: Path, above: str) -> None:
    _said, found = read(tmp_path, f"{above}image;class\n0;cat\n1;dog\n2;cat\n3;dog\n;\n;\n")
    assert list(found.values()) == ["cat", "dog", "cat", "dog"]


def test_a_name_of_two_images_is_refused(tmp_path: Path) -> None:
    names = (*NAMES, "0.png")
    said = refusal(tmp_path, "image,class\n0,cat\n1,dog\n2,cat\n3,dog\n", names=names)
    assert "labels.csv: 0 may be 0.jpg or 0.png; write the whole names" in said
    _said, found = read(tmp_path / "whole", "image,class\n0.jpg,cat\n1,dog\n2,cat\n3,dog\n", names=names)
    assert found.keys() == set(NAMES)


@pytest.mark.parametrize("place", ["images", "images/inner"])
def test_images_that_no_line_names_are_counted_wherever_they_are(tmp_path: Path, place: str) -> None:
    fill(tmp_path / place, ["loose.jpg"], first=20)
    fill(tmp_path / place, ["deep/a.jpg", "deep/b.jpg", "deep/c.jpg", "deep/d.jpg", "unlisted/e.jpg"])
    (tmp_path / "labels.csv").write_text("path,class\ndeep/a.jpg,cat\ndeep/b.jpg,dog\ndeep/c.jpg,cat\ndeep/d.jpg,dog\n")
    said = prepare("made", tmp_path / "images", tmp_path, "--labels", tmp_path / "labels.csv")
    inner = place.removeprefix("images").lstrip("/")
    names = sorted(f"{inner}/{name}".lstrip("/") for name in ("unlisted/e.jpg", "loose.jpg"))
    assert f"2 file(s) are left out, because they are not lines of the table (2 .jpg): {', '.join(names)}\n" in said


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("C:\\me\\{}.jpg", "C:/me/"),
        ("C:\\me\\{}", "C:/me/"),
        ("images/{}.jpg", "images/"),
        ("/data/ann/images/{}.jpg", "/data/ann/images/"),
        ("../images/{}.jpg", "../images/"),
    ],
)
def test_names_of_another_machine_are_read_without_its_folder(tmp_path: Path, name: str, folder: str) -> None:
    lines = [f"{name.format(number)};{'cat' if number % 2 else 'dog'}\n" for number in range(4)]
    said, found = read(tmp_path, "\ufeffimage;class\n" + "".join(lines))
    assert list(found.values()) == ["dog", "cat", "dog", "cat"]
    assert f"read without the folder that all of them begin with: {folder}\n" in said


def test_the_folder_of_another_machine_keeps_those_below_it(tmp_path: Path) -> None:
    """Else two images of one name in two folders would be one."""
    fill(tmp_path / "images", [f"{place}/{number}.jpg" for place in "ab" for number in range(2)])
    rows = [f"D:\\set\\{place}\\{number}.jpg,{place}{number}\n" for place in "ab" for number in range(2)]
    (tmp_path / "labels.csv").write_text("image,class\n" + "".join(2 * rows))
    with pytest.raises(ConfigError, match="too few|has 1 image"):
        prepare("made", tmp_path / "images", tmp_path, "--labels", tmp_path / "labels.csv")


def test_names_in_the_folder_itself_may_be_whole_paths(tmp_path: Path) -> None:
    lines = [f"{tmp_path}/images/{number}.jpg,{'cat' if number % 2 else 'dog'}\n" for number in range(4)]
    assert list(read(tmp_path, "image,class\n" + "".join(lines))[1].values()) == ["dog", "cat", "dog", "cat"]


@pytest.mark.parametrize("missing", ["NaN", "nan", "<NA>", "#N/A", "null", "#REF!"])
def test_a_class_that_says_there_is_none_is_refused(tmp_path: Path, missing: str) -> None:
    said = refusal(tmp_path, f"image,class\n0,cat\n1,dog\n2,{missing}\n3,dog\n")
    assert f"labels.csv, line 4: the class of 2 is {missing!r}" in said


@pytest.mark.parametrize("later", ["3,cat,ok\n", '3,cat,"5 inch\n'])
def test_a_quote_that_is_closed_late_or_nowhere_is_refused(tmp_path: Path, later: str) -> None:
    said = refusal(tmp_path, f'image,class,notes\n0,cat,ok\n\n1,dog,"5 inch\n2,dog,ok\n{later}')
    assert "labels.csv, line 4: a quote opens a cell with other lines, such as '2,dog,ok'; close it, or write" in said
    assert "line 1: a quote opens" in refusal(tmp_path, 'image,"class\n0,cat\n1,cat\n2,dog\n3,dog\n')


@pytest.mark.parametrize("empty", ["", "  ", ",", " , "])
def test_lines_without_a_value_do_not_count(tmp_path: Path, empty: str) -> None:
    _, found = read(tmp_path, f"image,class\n0,cat\n1,dog\n{empty}\n2,cat\n3,dog\n{empty}\n")
    assert found == {"0.jpg": "cat", "1.jpg": "dog", "2.jpg": "cat", "3.jpg": "dog"}


def test_names_in_folders_may_lack_their_suffix(tmp_path: Path) -> None:
    _, found = read(tmp_path, "image,class\na/0,cat\na/1,dog\nb/2,cat\nb/3.jpg,dog\n", names=IN_FOLDERS)
    assert list(found) == list(IN_FOLDERS)


def test_names_of_windows_in_several_folders_are_found(tmp_path: Path) -> None:
    table = "image,class\na\\0.jpg,cat\na\\1.jpg,dog\nb\\2.jpg,cat\nb\\3.jpg,dog\n"
    _, found = read(tmp_path, table, names=IN_FOLDERS)
    assert list(found) == list(IN_FOLDERS)


@pytest.mark.parametrize("quoted", ['="{}"', "'{}'"])
def test_other_quotes_than_those_of_csv_are_read(tmp_path: Path, quoted: str) -> None:
    """Excel keeps a text so, and some programs write single quotes."""
    lines = [",".join(map(quoted.format, line)) for line in (("image", "class"), ("0", "cat"), ("1", "07"))]
    _, found = read(tmp_path, "\n".join([*lines, "2,cat", "3,07\n"]))
    assert found == {"0.jpg": "cat", "1.jpg": "07", "2.jpg": "cat", "3.jpg": "07"}


def test_an_image_whose_name_is_written_in_two_ways_is_one_image(tmp_path: Path) -> None:
    said, found = read(tmp_path, "image,class\n0.jpg,cat\n./0.jpg,cat\n1,dog\n2,cat\n3,dog\n")
    assert len(found) == 4 and "lines that repeat an image and its class: 1" in said
    assert "1 image with several classes" in refusal(tmp_path / "b", "image,class\n0,cat\n./0,dog\n1,cat\n2,dog\n")


@pytest.mark.parametrize("names", [NAMES, tuple(f"images/{name}" for name in NAMES)])
@pytest.mark.parametrize("written", ["{}", "images/{}"])
def test_images_may_be_in_one_folder_of_the_given_one(tmp_path: Path, names: tuple[str, ...], written: str) -> None:
    lines = [f"{written.format(name)},{'cat' if name < '2' else 'dog'}\n" for name in NAMES]
    _, found = read(tmp_path, "image,class\n" + "".join(lines), names=names)
    assert list(found.values()) == ["cat", "cat", "dog", "dog"]


@pytest.mark.parametrize("beside", ["notes/", "masks/of/0.jpg", "masks/of/only/0.jpg"])
def test_images_in_the_given_folder_go_before_what_is_below_it(tmp_path: Path, beside: str) -> None:
    (tmp_path / "images" / beside.rpartition("/")[0]).mkdir(parents=True)
    if not beside.endswith("/"):
        fill(tmp_path / "images", [beside], first=20)
    read(tmp_path, "image,class\n0,cat\n1,cat\n2,dog\n3,dog\n")
    first = min(listed(tmp_path / "made"), key=lambda line: line["name"])
    assert first["file_sha256"] == hashlib.sha256(encoded(0)).hexdigest()


def test_images_that_are_refused_are_not_said_to_be_others(tmp_path: Path) -> None:
    said = refusal(tmp_path, "image,class\n0,cat\n0,dog\n1,cat\n2,dog\n3,cat\n4,dog\n")
    assert "1 image with several classes" in said and "1 of 4 listed images are not in" in said
    assert "others" not in said
    said = refusal(tmp_path / "line", "image,class\n0,\n1,cat,x\n2,cat\n3,dog\n4,dog\n")
    assert "1 of 3 listed images are not in" in said and "others" not in said


def test_a_cell_may_have_line_ends(tmp_path: Path) -> None:
    _, found = read(tmp_path, 'image,class,notes\n0,cat,"blurred,\nbut good"\n1,dog,"2\n3"\n2,cat,\n3,dog,\n')
    assert found == {"0.jpg": "cat", "1.jpg": "dog", "2.jpg": "cat", "3.jpg": "dog"}


def test_a_cell_may_be_long_and_a_quote_may_open_a_long_one(tmp_path: Path) -> None:
    lines = [f"{number},{'cat' if number % 2 else 'dog'},{'1 2 ' * 40_000}\n" for number in range(4)]
    _, found = read(tmp_path, "image,class,mask\n" + "".join(lines))
    assert found == {"0.jpg": "dog", "1.jpg": "cat", "2.jpg": "dog", "3.jpg": "cat"}
    said = refusal(tmp_path / "open", "image,class,mask\n" + "".join(lines).replace("1 2", '"1 2', 1))
    assert "labels.csv, line 2: a quote opens a cell with other lines, such as '1,cat," in said and len(said) < 1000
    assert len(refusal(tmp_path / "empty", "image,class,mask\n" + "".join(lines).replace("cat", ""))) < 1000


def test_what_has_no_width_and_blanks_before_quotes_change_no_value(tmp_path: Path) -> None:
    _, found = read(tmp_path, 'image,class\u200b\n0, "cat"\n1,dog\ufeff\n2, cat\u200b\n\u200b3,"dog"\n')
    assert found == {"0.jpg": "cat", "1.jpg": "dog", "2.jpg": "cat", "3.jpg": "dog"}


def test_numbers_that_are_equal_are_warned_of(tmp_path: Path) -> None:
    said, _ = read(tmp_path, "image;class\n0;1\n1;1.0\n2;1,0\n3;1.0\n4;1\n5;1,0\n", names=SIX)
    assert "classes with almost the same name are kept apart: '1' and '1,0' and '1.0';" in said


def test_values_with_a_comma_are_values(tmp_path: Path) -> None:
    said, _ = read(tmp_path, "image;class\n0;1,5\n1;2,5\n2;1,5\n3;2,5\n")
    assert "the 2 classes are numbers (1,5, 2,5), and each is a class of its own" in said


@pytest.mark.parametrize("missing", ["NA", "None", "n/a", "Unknown", "?", "--"])
def test_a_class_that_may_say_there_is_none_is_warned_of(tmp_path: Path, missing: str) -> None:
    said, _ = read(tmp_path, f"image,class\n0,cat\n1,{missing}\n2,cat\n3,{missing}\n")
    assert f"warning: {missing!r} is a class like others" in said


@pytest.mark.parametrize(("first", "is_warned_of"), [("1", False), ("0", True)])
def test_minus_one_is_warned_of_unless_it_is_one_of_two_classes(tmp_path: Path, first: str, is_warned_of: bool) -> None:
    said, _ = read(tmp_path, f"image,class\n0,{first}\n1,1\n2,-1\n3,1\n4,-1\n5,{first}\n", names=SIX)
    assert ("warning: '-1' is a class like others" in said) == is_warned_of


def test_measured_values_are_not_taken_for_classes_without_a_word(tmp_path: Path) -> None:
    names = tuple(f"{number}.jpg" for number in range(44))
    ages = "".join(f"{number},{20 + number // 2}\n" for number in range(44))
    said, _ = read(tmp_path / "ages", f"image,age\n{ages}", names=names)
    assert "warning: the 22 classes are numbers (20, 21, 22 and 19 more)" in said and "a regression" in said
    weights = "".join(f"{number},{number / 7:.2f}\n" for number in range(4))
    refused = refusal(tmp_path / "weights", f"image,weight\n{weights}")
    assert refused.count("too few images") == 1 and "(a regression) need a data set of your own" in refused
    said, _ = read(tmp_path / "grades", "image,grade\n0,1\n1,2\n2,1\n3,2\n")
    assert "regression" not in said


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ("is_test", "0, 1"), ("Training_Image", "0, 1"), ("set", "Test, train"), ("is_valid", "False, True"),
        ("Usage", "PublicTest, Training"), ("fold", "1, 2"), ("camera", ""), ("RootFolder", ""),
    ],
)  # fmt: skip
def test_a_column_that_may_be_the_split_is_named(tmp_path: Path, column: str, words: str) -> None:
    said, _ = read(
        tmp_path,
        f"image,class,{column}\n"
        + "".join(
            f"{number},{'cat' if number % 2 else 'dog'},{(words or 'a, b').split(', ')[number // 2]}\n"
            for number in range(4)
        ),
    )
    assert f"not read: {column}" in said
    advice = f"column {column!r} ({words}) may say the split: to use it, give it in a column called split, with train"
    assert (advice in said) == bool(words) == ("may say the split" in said)


@pytest.mark.parametrize("has_column", [True, False])
def test_folders_that_may_be_the_split_are_named(tmp_path: Path, has_column: bool) -> None:
    names = [f"{split}/{number}.jpg" for split in ("test", "train") for number in range(4)]
    lines = [f"{name},{name[-5]},{name.split('/')[0] if has_column else ''}\n" for name in names]
    said, _ = read(tmp_path, f"image,class,{'split' * has_column}\n{''.join(lines)}", names=tuple(names))
    assert ("the folder of each image (test, train) may say the split: to use it, give it in" in said) != has_column


def test_a_table_that_contradicts_the_folders_is_said_to(tmp_path: Path) -> None:
    names = ("cat/0.jpg", "cat/1.jpg", "cat/2.jpg", "dog/0.jpg")
    said, _ = read(tmp_path, "image,class\ncat/0,dog\ncat/1,cat\ncat/2,cat\ndog/0,dog\n", names=names)
    assert "in a folder that is not called as their class, as others are: cat/0.jpg (dog)\n" in said


def test_what_classes_lack_without_lines_at_fault_is_no_second_fault(tmp_path: Path) -> None:
    lines = "".join(f"{n},{'cat' if n < 2 else 'dog'},{'training set' if n % 2 else 'test'}\n" for n in range(4))
    refused = refusal(tmp_path, f"image,class,split\n{lines}")
    assert "no such split: 'training set'" in refused and "classes have all" not in refused


@pytest.mark.parametrize(
    ("names", "wrong"), [(IN_FOLDERS, "A/0.jpg,a"), (("0.jpg", *(f"x/{n}.jpg" for n in range(1, 6))), "0.jpg,a|b")]
)
def test_the_folder_and_the_classes_are_judged_with_what_is_refused(
    tmp_path: Path, names: tuple[str, ...], wrong: str
) -> None:
    rows = [wrong, *(f"{name},{'a' if index < 1 else 'b'}" for index, name in enumerate(names[1:]))]
    refused = refusal(tmp_path, "\n".join(["image,class", *rows]), names=tuple(f"below/{name}" for name in names))
    assert "; and\n" not in refused and "too few" not in refused


def test_how_columns_are_read_is_said_where_that_is_the_fault(tmp_path: Path) -> None:
    rows = [f"{'cat' if number % 2 else 'dog'},{number}" for number in range(4)]
    said = refusal(tmp_path / "turned", "\n".join(f"{row}.jpg" for row in rows))
    assert "as it is read now: its first line names no columns: the first one is the image, the second one" in said
    said = refusal(tmp_path / "splits", "\n".join(["class,image,split,Split", *(f"{row},train,test" for row in rows)]))
    assert "labels.csv has 2 columns called split; remove all but one" in said
    said = refusal(tmp_path / "other", "image,cat,dog,male\n0,1,0,1\n1,1,0,0\n2,0,1,0\n3,0,1,0\n")
    assert "2 of its classes are 1 (cat, male); remove columns that are no classes; an image may" in said


def test_lines_with_one_fault_are_named_together(tmp_path: Path) -> None:
    lines = "".join(f"{number},0,0\n" for number in range(4))
    refused = refusal(tmp_path, f"image,cat,dog\n{lines}")
    assert "labels.csv, lines 2, 3, 4, 5: none of its classes is 1;" in refused and refused.count("none of") == 1


@pytest.mark.parametrize("column", ["RelativePath", "Station", "Species"])
@pytest.mark.parametrize("above", [(), ("0.jpg", "1.jpg")])
def test_the_folder_of_each_image_may_be_in_another_column(tmp_path: Path, column: str, above: tuple[str, ...]) -> None:
    """As of camera traps: a name stands in several folders, each time with another class."""
    names = ("cat/0.jpg", "cat/1.jpg", "dog/0.jpg", "dog/1.jpg")
    lines = [f"{name.rpartition('/')[2]},{name[:3]},{name[:3]}\n" for name in names]
    header = "File,Species,Other\n" if column == "Species" else f"File,{column},Species\n"
    said, classes = read(tmp_path, header + "".join(lines), names=(*names, *above))
    assert classes == {name: name[:3] for name in names}
    assert f"the image is column 'File', its class 'Species', its folder {column!r}" in said
    if not above:
        wrong = header + "".join(lines[:3]) + lines[3].replace("dog", "owl")
        assert "1 of 4 listed images are not in" in refusal(tmp_path / "one", wrong, names=names)


@pytest.mark.parametrize("column", ["Folder", "image_dir"])
@pytest.mark.parametrize("above", ["C:\\me\\photos", "/home/me/photos", "images", "old/images"])
def test_a_column_of_folders_of_another_machine_is_no_leave_to_read_other_images(
    tmp_path: Path, column: str, above: str
) -> None:
    names = (*NAMES, *(f"b/{name}" for name in NAMES))
    lines = "".join(f"{above}/b,{name},{'cat' if name < '2' else 'dog'}\n" for name in NAMES)
    _said, classes = read(tmp_path, f"{column},File,class\n{lines}", names=names)
    assert list(classes) == [f"b/{name}" for name in NAMES]


def test_a_folder_that_is_not_there_is_no_leave_to_read_other_images(tmp_path: Path) -> None:
    names = tuple(f"{name},{'cat' if name < '2' else 'dog'}\n" for name in NAMES)
    said = refusal(tmp_path / "one", "folder,file,class\n" + "".join(f"b,{name}" for name in names))
    assert (
        "are not in" in said
        and "as it is read now: the image is column 'file', its class 'class', its folder 'folder';" in said
    )
    said = refusal(tmp_path / "two", "file,class\n" + "".join(f"/home/me/images/b/{name}" for name in names))
    assert f"{ALIKE} 0.jpg for /home/me/images/b/0.jpg" in said
    in_itself = "".join(f"b,b/{name}" for name in names)
    _said, classes = read(
        tmp_path / "three", f"folder,file,class\n{in_itself}", names=(*NAMES, *(f"b/{name}" for name in NAMES))
    )
    assert list(classes) == [f"b/{name}" for name in NAMES]


def test_a_title_above_the_names_of_columns_is_to_be_removed(tmp_path: Path) -> None:
    said = refusal(tmp_path, "Birds of 2024,\nimage,class\n0,cat\n1,dog\n2,cat\n3,dog\n")
    assert "labels.csv: line 2 names the columns; remove what is above it" in said


def test_the_names_of_columns_again_are_no_image(tmp_path: Path) -> None:
    said = refusal(tmp_path, "image,class\n0.jpg,cat\n1.jpg,dog\nimage,class\n2.jpg,cat\nimage,class\n3.jpg,dog\n")
    assert "labels.csv names its columns again (line 4, 6); remove that" in said


def test_a_class_that_was_corrected_is_no_other_folder(tmp_path: Path) -> None:
    """The folder is taken from the class where that fits most lines; then one line alone cannot be mended."""
    names = ("dress/0.jpg", "dress/1.jpg", "dress/2.jpg", "hat/3.jpg", "hat/4.jpg", "hat/5.jpg")
    classes = {name: "hat" if name == "dress/2.jpg" else name.partition("/")[0] for name in names}
    bare = "".join(f"{name.partition('/')[2]},{class_}\n" for name, class_ in classes.items())
    said = refusal(tmp_path / "bare", f"file,label\n{bare}", names=names)
    assert "1 of 6 listed images are not in" in said and "write dress" not in said
    assert "read from the folder in 'label': if that is another one, write it into 'file' of every line; " in said
    whole = "".join(f"{name},{class_}\n" for name, class_ in classes.items())
    assert read(tmp_path / "whole", f"file,label\n{whole}", names=names)[1] == classes


def test_an_image_that_is_missing_in_its_folder_is_not_looked_for_elsewhere(tmp_path: Path) -> None:
    said = refusal(tmp_path / "gone", "image,class\n" + "".join(f"b/{name},x\n" for name in NAMES))
    assert f"4 of 4 listed images are not in {tmp_path / 'gone' / 'images'}: b/0.jpg, " in said
    assert f"{ALIKE} 0.jpg for b/0.jpg, if they are the same images; " in said
    table = "File,RelativePath,Species\n0.jpg,,cat\n1.jpg,,cat\n0.jpg,b,dog\n1.jpg,b,dog\n"
    said = refusal(tmp_path, table, names=("0.jpg", "1.jpg", "b/0.jpg"))
    assert f"1 of 4 listed images are not in {tmp_path / 'images'}: b/1.jpg; each image is read from the folder" in said
    said = refusal(
        tmp_path / "other", "image,class\n0.jpg,x\n1.jpg,x\n0.jpg,y\n", names=("a/0.jpg", "b/0.jpg", "c/1.jpg")
    )
    both = f"{ALIKE} a/0.jpg or b/0.jpg for 0.jpg, whichever is meant; ".replace("4", "3")
    assert both in said and "several classes" not in said
    said = refusal(
        tmp_path / "two", "image,class\n0.jpg,x\n1.jpg,y\n", names=("a/0.jpg", "a/1.jpg", "b/0.jpg", "b/1.jpg")
    )
    assert f"{ALIKE} a/0.jpg or b/0.jpg for 0.jpg, whichever is meant; " in said
    said = refusal(tmp_path / "top", "image,class\na/0.jpg,x\nb/0.jpg,y\n", names=("0.jpg",))
    assert "write 0.jpg for a/0.jpg or b/0.jpg, whichever is meant; " in said
    said = refusal(tmp_path / "case", "image,class\nA/0.jpg,x\nB/0.jpg,y\n", names=("a/0.jpg", "b/0.jpg"))
    assert "2 have a listed name but for capitals: write a/0.jpg for A/0.jpg, if they are the same images; " in said


@pytest.mark.parametrize(
    ("wrong", "case"),
    [
        ("C:\\me\\{}.JPG", "give the whole"),
        ("{}.JPG", "4 have a listed name but for capitals: write 0.jpg for 0.JPG, if they"),
        ("{}.png", f"{ALIKE} 0.jpg for 0.png, if they"),
        ("000{}.jpg", f"{ALIKE} 0.jpg for 0000.jpg, if they"),
        ("/data/upload/1/a1b2c3d4-{}.jpg", f"{ALIKE} 0.jpg for /data/upload/1/a1b2c3d4-0.jpg, if they"),
        ("https://x.org/b{}.jpg", "give the whole"),
    ],
)
def test_a_table_whose_names_differ_says_what_is_there(tmp_path: Path, wrong: str, case: str) -> None:
    lines = [f"{wrong.format(number)},{'cat' if number % 2 else 'dog'}\n" for number in range(4)]
    said = refusal(tmp_path, "image,class\n" + "".join(lines))
    assert f"4 of 4 listed images are not in {tmp_path / 'images'}: {wrong.format(0)}, " in said
    assert f"there are 4 others, such as 0.jpg; {case}" in said
